// Keeps folds open when changes draw them again.

/** Replaces the content of `box` by `nodes`. An open fold opens again by its name, and keeps the focus if it had it. */
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
