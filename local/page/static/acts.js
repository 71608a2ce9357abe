// The acts of an operator. Each shows its command before it runs, and the command's output afterwards.

import { byId, make, prose, visible } from "./text.js";
import { call } from "./server.js";

/** Commands that still run. Meanwhile their buttons can be drawn again, so that they could be pressed twice. */
const underway = new Set();

export function startActs() {
  addEventListener("hashchange", () => tell("", ""));
}

/** Returns a fold for each act. */
export const actsOf = (acts) => (acts ?? []).map((act) => make("details", { class: "act", "data-act": act.name },
  make("summary", {}, act.label, " …"),
  make("p", { class: "small" }, prose(act.does)),
  make("pre", { tabindex: "0" }, visible(act.command)),
  make("button", { type: "button", onclick: () => perform(act) }, act.label)));

async function perform({ name, id, command }) {
  if (underway.has(command)) return;
  underway.add(command);
  tell("", `${command} …`);
  try {
    const { lines } = await call("POST", "/api/acts", { act: name, id });
    tell("good", [command, ...lines].join("\n"));
  } catch (refused) {
    tell("bad", [command, refused.message].join("\n"));
  }
  underway.delete(command);
}

function tell(tone, text) {
  const box = byId("acted");
  box.className = `acted ${tone}`;
  box.hidden = !text;
  if (box.textContent !== text) box.replaceChildren(visible(text));
}
