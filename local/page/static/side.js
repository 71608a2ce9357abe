// The right column: its tabs, the list of messages, and one message's timeline.

import { byId, count, isolated, make, prose, say, time, visible } from "./text.js";
import { actsOf, startActs } from "./acts.js";
import { drawDeadLetters } from "./dead_letters.js";
import { redraw } from "./folds.js";
import { go, to } from "./links.js";
import { call } from "./server.js";
import { store } from "./store.js";
import { COUNTERS } from "./strip.js";

const ROWS_AT_ONCE = 100;
const TABS = ["events", "messages", "timeline"];

let open = null;
let drawn = null;
let asked = 0;
let again = 0;

export function startSide() {
  startActs();
  for (const tab of TABS) byId(`tab-${tab}`).addEventListener("click", () => go(addressOf(tab)));
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = TABS.findIndex((tab) => event.target.id === `tab-${tab}`);
    const tab = TABS[(now + step + TABS.length) % TABS.length];
    go(addressOf(tab));
    byId(`tab-${tab}`).focus();
  });
  byId("group").append(make("option", { value: "" }, "all messages"), ...COUNTERS.map(({ name, label }) => make("option", { value: name }, label)));
  byId("group").addEventListener("change", (event) => go(groupAddress(event.target.value)));
  byId("find-message").addEventListener("input", drawList);
}

const addressOf = (tab) => (tab === "timeline" && open !== null ? to("message", open) : tab === "messages" ? groupAddress(byId("group").value) : to(tab));
const groupAddress = (group) => (group === "dead_letters" ? to("dead-letters") : group ? to("messages", group) : to("messages"));
/** Opens all messages of a group. */
export function goToGroup(group) {
  byId("find-message").value = "";
  go(groupAddress(group));
}

export function showTab(tab) {
  for (const each of TABS) {
    const button = byId(`tab-${each}`);
    button.setAttribute("aria-selected", String(each === tab));
    button.tabIndex = each === tab ? 0 : -1;
    byId(`panel-${each}`).hidden = each !== tab;
  }
  if (tab === "messages") drawList();
}

export function showGroup(group = "") {
  byId("group").value = COUNTERS.some(({ name }) => name === group) ? group : "";
  showTab("messages");
  reveal();
}

// On a narrow screen the column is far below the pressed button.
function reveal() {
  const side = document.querySelector(".side");
  if (side.getBoundingClientRect().top > innerHeight - 80) side.scrollIntoView({ block: "start" });
}

export function drawList() {
  if (byId("panel-messages").hidden) return;
  const group = byId("group").value;
  const wanted = byId("find-message").value.trim().toLowerCase();
  if (group === "dead_letters") return drawDeadLetters(wanted);
  byId("of-examples").hidden = true;
  const rows = [];
  let matches = 0;
  for (const message of [...store.messages.values()].reverse()) {
    if (group && !(message.group ?? []).includes(group)) continue;
    if (wanted && !`${message.to} ${message.message_id} ${message.text ?? ""}`.toLowerCase().includes(wanted)) continue;
    matches += 1;
    if (rows.length < ROWS_AT_ONCE) rows.push(message);
  }
  const chosen = document.activeElement?.dataset?.message;
  byId("list").replaceChildren(...rows.map(messageRow));
  if (chosen) byId("list").querySelector(`[data-message="${CSS.escape(chosen)}"]`)?.focus();
  const listed = matches > rows.length ? `The newest ${rows.length} of ${count(matches, "message")}.` : `${count(matches, "message")}.`;
  const unlisted = wanted ? "" : beyond(group, matches);
  say(byId("list-says"), matches > 0 ? listed + unlisted : unlisted || "None here. Choose another group, or clear the search.");
}

// The number above includes messages that can't be listed.
function beyond(group, listed) {
  const more = (store.strip[group] ?? 0) - listed;
  if (more <= 0) return "";
  if (group !== "queued") return ` ${count(more, "older one")} not listed.`;
  return ` ${more} on the queue can't be listed: messages of other systems that are not due yet, or copies of sent messages.`;
}

function messageRow(message) {
  return make("li", {}, make("a", { class: `message-button ${message.tone}`, "data-message": message.message_id, href: to("message", message.message_id) },
    make("span", { class: "strong" }, isolated(message.to)), make("span", { class: "small" }, message.example ? "example, " : null, message.label ?? message.stage, message.problem ? ": " : null, message.problem ? isolated(message.problem) : null),
    make("span", { class: "small about", dir: "auto" }, visible(message.text === null || message.text === undefined ? message.message_id : message.text.slice(0, 80)))));
}

export async function showTimeline(messageId) {
  open = messageId;
  showTab("timeline");
  reveal();
  await readTimeline();
}

/** Reads the open timeline again if its message is among the changed ones. */
export function refreshTimeline(messageIds) {
  if (open === null || again || !messageIds.has(open)) return;
  again = setTimeout(() => { again = 0; readTimeline(); }, 300);
}

/** After a snapshot: the message may be gone. */
export function forgetTimeline() {
  if (open !== null) readTimeline();
}

async function readTimeline() {
  const mine = ++asked;
  const box = byId("timeline");
  try {
    const life = await call("GET", `/api/messages?id=${encodeURIComponent(open)}`);
    if (mine === asked) drawTimeline(box, lifeOf(life));
  } catch (refused) {
    if (mine === asked) drawTimeline(box, [make("p", { class: "error" }, refused.message)]);
  }
}

function drawTimeline(box, nodes) {
  if (drawn === open) redraw(box, nodes);
  else box.replaceChildren(...nodes);
  drawn = open;
}

function lifeOf({ message, next_step: next, acts, timeline, ledger, gateway }) {
  return [
    make("h3", {}, make("span", { class: `pill ${message?.tone ?? "plain"}` }, message?.stage ?? "")),
    make("p", { class: "small" }, message?.to ? make("a", { href: to("handset", message.to) }, isolated(message.to)) : "", " · ", isolated(message?.message_id ?? open)),
    make("ol", { class: "life" }, ...(timeline ?? []).map(({ at, text, tone }) => make("li", { class: tone ?? "plain" }, at ? time(at) : null, make("span", { dir: "auto" }, visible(text))))),
    next ? make("p", { class: "next" }, "Next: ", prose(next)) : null,
    ...actsOf(acts),
    ...[["In the ledger", ledger], ["As the gateway reported it", gateway]].map(([title, item]) => item && Object.keys(item).length > 0
      ? make("details", { class: "small" }, make("summary", {}, title), make("pre", { tabindex: "0" }, visible(JSON.stringify(item, null, 2)))) : null),
  ].filter(Boolean);
}
