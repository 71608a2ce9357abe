// The list of dead letters: each with its time, the allowed acts, and the reason.

import { byId, count, isolated, make, prose, say, time, visible } from "./text.js";
import { actsOf } from "./acts.js";
import { redraw } from "./folds.js";
import { to } from "./links.js";
import { store } from "./store.js";

const ROWS_AT_ONCE = 100;

let rows = new Map();

export function drawDeadLetters(wanted) {
  const found = store.deadLetters.filter((each) => !wanted || JSON.stringify(each).toLowerCase().includes(wanted));
  const kept = new Map();
  for (const each of found.slice(-ROWS_AT_ONCE).reverse()) {
    const told = JSON.stringify(each);
    const before = rows.get(each.sqs_id);
    if (before && before.told !== told) redraw(before.node, [...rowOf(each).childNodes]);
    kept.set(each.sqs_id, { told, node: before?.node ?? rowOf(each) });
  }
  rows = kept;
  const isOfExample = new Set(found.filter(({ example }) => example).map(({ sqs_id: id }) => id));
  place(byId("list"), [...rows].filter(([id]) => !isOfExample.has(id)).map(([, { node }]) => node));
  place(byId("example-list"), [...rows].filter(([id]) => isOfExample.has(id)).map(([, { node }]) => node));
  byId("of-examples").hidden = isOfExample.size === 0;
  say(byId("of-examples-says"), `${count(isOfExample.size, "dead letter")} of the examples`);
  say(byId("list-says"), found.length === 0 ? "No dead letters." : store.strip.dead_letters > found.length && !wanted ? `The newest ${found.length} of ${count(store.strip.dead_letters, "dead letter")}.` : `${count(found.length, "dead letter")}.`);
}

/** Leaves rows that are in their place, because a row that moves loses the focus. */
function place(list, nodes) {
  for (const each of [...list.children]) if (!nodes.includes(each)) each.remove();
  nodes.forEach((node, index) => { if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null); });
}

function rowOf({ reason, detail, since, why, acts, message_id: messageId, to: number, body }) {
  return make("li", {}, make("div", { class: "dead-letter" },
    make("p", { class: "head" }, make("span", { class: "strong" }, isolated(reason)), since ? time(since) : null),
    detail ? make("p", { class: "small" }, isolated(detail)) : null,
    why && why !== detail ? make("p", { class: "small" }, prose(why)) : null,
    messageId ? make("a", { class: "small", href: to("message", messageId) }, "Timeline of ", isolated(messageId)) : null,
    number ? make("p", { class: "small" }, "to ", make("a", { href: to("handset", number) }, isolated(number))) : null,
    ...actsOf(acts),
    make("pre", { tabindex: "0" }, visible(typeof body === "string" ? body : JSON.stringify(body, null, 2)))));
}
