// The switches of the gateway simulator.

import { byId, count, make, say } from "./text.js";
import { call } from "./server.js";
import { store } from "./store.js";

const GROUPS = [
  { title: "The gateway", switches: [
    { name: "gateway_down", label: "Gateway down", does: "nothing listens; messages wait and are retried" },
    { name: "slow", label: "Slow responses", does: "seconds before each response", value: 2 },
    { name: "credentials_refused", label: "Credentials refused", does: "401 for everything" },
  ] },
  { title: "Responses to messages (one at a time)", switches: [
    { name: "lost_responses", label: "Lost", does: "accepted, but no response: unknown whether it was sent" },
    { name: "lost_then_told", label: "Lost, then resolved", does: "no response; after 5 s a callback proves it was sent" },
    { name: "too_many_requests", label: "Too many requests", does: "429, twice for each message" },
    { name: "unavailable", label: "Unavailable", does: "503 without an error of the API: unknown whether it was sent" },
  ] },
  { title: "Status callbacks (one at a time)", switches: [
    { name: "callbacks_doubled", label: "Doubled", does: "each one is delivered three times" },
    { name: "callbacks_reordered", label: "Reordered", does: "delivered out of order" },
    { name: "callbacks_early", label: "Early", does: "before the response to the send" },
    { name: "callbacks_late", label: "Late", does: "5 s after the last status" },
  ] },
  { title: "All callbacks", switches: [
    { name: "callbacks_held", label: "Callbacks held", does: "held back until you turn this off" },
  ] },
];

const boxes = new Map();
let seconds = null;

export function startFaults() {
  // Open only beside the handsets; above them it would hide them.
  byId("faults-card").open = matchMedia("(min-width: 761px)").matches;
  byId("state").prepend(make("button", { type: "button", id: "faults-on", class: "pill unsure", hidden: true, onclick: normal }, ""));
  byId("faults").append(
    make("p", { id: "no-faults", class: "empty", hidden: true }, "The gateway is not the simulator (GATEWAY_BASE_URL is set). For faults and replies, start make run without it."),
    make("div", { id: "switches" },
      make("button", { type: "button", id: "normal", onclick: normal }, "Back to normal"),
      ...GROUPS.map(({ title, switches }) => make("fieldset", {}, make("legend", { class: "small" }, title), ...switches.map(rowOf)))),
    make("p", { id: "faults-say", class: "error", role: "alert" }));
}

function rowOf(each) {
  const box = make("input", { type: "checkbox", role: "switch", id: `fault-${each.name}`, "aria-describedby": `does-${each.name}`, onchange: () => turn(each, box) });
  boxes.set(each.name, box);
  if (each.value) {
    seconds = make("input", { type: "number", min: "0.5", max: "60", step: "0.5", value: each.value, "aria-label": "Seconds before each response", onchange: () => { if (box.checked) turn(each, box); } });
  }
  return make("div", { class: "switch" }, box,
    make("div", {}, make("label", { for: box.id }, each.label), make("p", { class: "small", id: `does-${each.name}` }, each.does)),
    each.value ? seconds : null);
}

const normal = () => change(() => call("DELETE", "/api/faults"));

function turn({ name, value }, box) {
  const body = { name, on: box.checked };
  if (value && box.checked) body.value = Number(seconds.value);
  return change(() => call("POST", "/api/faults", body));
}

async function change(work) {
  try {
    store.faults = await work();
    say(byId("faults-say"), "");
  } catch (refused) {
    say(byId("faults-say"), refused.message);
  }
  drawFaults();
}

export function drawFaults() {
  const faults = store.faults;
  const without = store.meta.simulator === false;
  byId("no-faults").hidden = !without;
  byId("switches").hidden = without;
  const active = new Set(faults?.active ?? []);
  for (const [name, box] of boxes) box.checked = active.has(name);
  const told = faults?.response_delay_seconds;
  if (told && document.activeElement !== seconds) seconds.value = told;
  byId("normal").classList.toggle("primary", active.size > 0);
  say(byId("normal"), active.size > 0 ? `Back to normal (${active.size} on)` : "Back to normal");
  byId("faults-on").hidden = active.size === 0;
  say(byId("faults-on"), `${count(active.size, "fault")} on: back to normal`);
  const seed = store.meta.seed;
  say(byId("seed"), seed === null || seed === undefined ? "" : `seed ${seed}`);
}
