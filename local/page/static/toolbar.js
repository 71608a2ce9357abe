// A toolbar is one stop of the Tab key; the arrow keys, Home and End move inside it.

export function startToolbar(bar) {
  const controls = () => [...bar.querySelectorAll("button, summary")].filter((each) => each.checkVisibility() && !each.disabled);
  const settle = (stop) => {
    const all = controls();
    const one = all.includes(stop) ? stop : all[0];
    for (const each of bar.querySelectorAll("button, summary")) each.tabIndex = each === one ? 0 : -1;
  };
  const stopNow = () => bar.querySelector('[tabindex="0"]');
  bar.addEventListener("focusin", (event) => settle(event.target));
  bar.addEventListener("keydown", (event) => {
    const all = controls();
    const at = all.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    all.at(to % all.length).focus();
  });
  new MutationObserver(() => settle(stopNow())).observe(bar, { subtree: true, childList: true, attributeFilter: ["hidden", "disabled"] });
  settle(null);
}
