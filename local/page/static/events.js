// The events of SmsEventBus: grouped by message, filtered by kind, and paused on request.

import { byId, isolated, make, say, time, visible } from "./text.js";
import { to } from "./links.js";
import { messageOf, store } from "./store.js";

const EVENTS_AT_ONCE = 100;

const groups = new Map();
let rows = [];
let newest = null;
let isHeld = false;

export function startEvents() {
  byId("event-kind").addEventListener("change", filter);
  byId("events-hold").addEventListener("click", () => { isHeld = !isHeld; drawEvents(); });
}

export function drawEvents() {
  const fresh = newest === null ? store.events : store.events.filter(({ n }) => n > newest);
  byId("no-events").hidden = store.events.length > 0;
  byId("events-bar").hidden = store.events.length === 0;
  say(byId("events-hold"), isHeld ? `Continue (${fresh.length} new)` : "Hold still");
  if (isHeld) return;
  for (const event of fresh.slice(-EVENTS_AT_ONCE)) add(event);
  for (const { row, key } of rows.slice(0, -EVENTS_AT_ONCE)) remove(row, key);
  rows = rows.slice(-EVENTS_AT_ONCE);
  newest = store.events.at(-1)?.n ?? newest;
  filter();
}

/** Clears the list: after a snapshot all events come again. */
export function forgetEvents() {
  byId("events").replaceChildren();
  groups.clear();
  rows = [];
  newest = null;
  isHeld = false;
}

// The group with the latest event is first; inside a group, the events are in order of arrival.
function add({ at, detail_type: kind, event }) {
  const { message_id: messageId, source, gateway_id: id, status, state, reason } = event?.detail ?? {};
  const about = messageId || messageOf("", id)?.message_id;
  const key = about || source || id || kind;
  let group = groups.get(key);
  if (!group) {
    const list = make("ol");
    const title = about ? make("a", { href: to("message", about) }, isolated(about)) : isolated(key);
    group = { list, node: make("li", { class: "event-group" }, make("h3", {}, title), list) };
    groups.set(key, group);
  }
  const row = rowOf(kind, at, [status ?? state ?? reason].filter(Boolean), event);
  group.list.append(row);
  if (byId("events").firstChild !== group.node) byId("events").prepend(group.node);
  rows.push({ row, key });
  offer(kind);
}

function rowOf(kind, at, about, event) {
  const json = make("pre", { tabindex: "0" });
  const fold = make("details", {}, make("summary", {}, make("span", {}, kind, about.length > 0 ? ": " : null, ...about.map(isolated)), time(at)), json);
  fold.addEventListener("toggle", () => { if (fold.open && !json.firstChild) json.append(visible(JSON.stringify(event, null, 2))); });
  return make("li", { "data-kind": kind }, fold);
}

function remove(row, key) {
  row.remove();
  const group = groups.get(key);
  if (!group || group.list.firstChild) return;
  group.node.remove();
  groups.delete(key);
}

function offer(kind) {
  const options = [...byId("event-kind").options];
  if (options.some(({ value }) => value === kind)) return;
  const after = options.slice(1).find(({ value }) => value > kind) ?? null;
  byId("event-kind").insertBefore(make("option", { value: kind }, kind), after);
}

function filter() {
  const wanted = byId("event-kind").value;
  for (const { row } of rows) row.hidden = Boolean(wanted) && row.dataset.kind !== wanted;
  for (const { node, list } of groups.values()) node.hidden = [...list.children].every((row) => row.hidden);
}
