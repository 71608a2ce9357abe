// What a person has unfolded stays so when news draws it again.

/** Puts `nodes` in place of what `box` holds. A fold of the same name stays open, and the focus stays within it. */
export function redraw(box, nodes) {
  const unfolded = new Set(foldsOf(box).filter(({ open }) => open).map(nameOf));
  const held = document.activeElement;
  const fold = box.contains(held) ? held.closest("details") : null;
  box.replaceChildren(...nodes);
  for (const each of foldsOf(box)) if (unfolded.has(nameOf(each))) each.open = true;
  if (fold) foldsOf(box).find((each) => nameOf(each) === nameOf(fold))?.querySelector(held.localName)?.focus();
}

const foldsOf = (box) => [...box.querySelectorAll("details")];
const nameOf = (fold) => fold.querySelector("summary").textContent;
