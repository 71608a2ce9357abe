// The handsets: one phone per number.

import { byId, count, day, isolated, make, prose, say, time, visible } from "./text.js";
import { to } from "./links.js";
import { call } from "./server.js";
import { isExample, meaningOf, messageOf, store } from "./store.js";

const PHONES_AT_ONCE = 12;
const BUBBLES_AT_ONCE = 8;
const BY = { reply: "by its own reply", person: "by an operator", import: "by an imported list" };
const ICONS = { good: "✓", bad: "✕", unsure: "?", plain: "…" };

const phones = new Map();
let shown = [];
let limit = PHONES_AT_ONCE;
let showsExamples = false;

export function startPhones() {
  byId("find").addEventListener("input", () => { limit = PHONES_AT_ONCE; pickNewest(); drawPhones(); });
  byId("news").addEventListener("click", () => { pickNewest(); drawPhones(); });
  byId("examples").addEventListener("click", () => { showsExamples = !showsExamples; shown = []; drawPhones(); });
  byId("older").addEventListener("click", () => { limit += PHONES_AT_ONCE; pickNewest(); drawPhones(); });
}

/** After a snapshot: chooses the phones again, and redraws old ones. */
export function forgetPhones() {
  for (const phone of phones.values()) phone.version = -1;
  shown = shown.filter((number) => store.threads.has(number));
}

/** Shows a number's phone, as after sending to it; `focus`: also focuses it. */
export function bringForward(number, focus = false) {
  showsExamples ||= isExample(store.threads.get(number));
  if (!shown.includes(number)) shown.unshift(number);
  if (shown.length > limit) shown.pop();
  drawPhones();
  phones.get(number)?.root.scrollIntoView({ block: "nearest" });
  if (focus) phones.get(number)?.root.focus({ preventScroll: true });
}

function matching() {
  const wanted = byId("find").value.trim().toLowerCase();
  const all = [...store.threads.values()];
  if (!wanted) return showsExamples ? all : all.filter((thread) => !isExample(thread));
  return all.filter(({ number }) => `${number} ${meaningOf(number)?.name ?? ""} ${meaningOf(number)?.meaning ?? ""}`.toLowerCase().includes(wanted));
}

function pickNewest() {
  shown = matching().sort((one, other) => (one.latest < other.latest ? 1 : -1)).slice(0, limit).map(({ number }) => number);
}

/** Draws the changes. A phone on the page never moves, because the user can be typing in it. */
export function drawPhones() {
  const all = matching();
  if (shown.length === 0) pickNewest();
  else if (shown.length < limit) {
    const missing = all.filter(({ number }) => !shown.includes(number)).sort((one, other) => (one.latest < other.latest ? -1 : 1));
    for (const { number } of missing.slice(-(limit - shown.length))) shown.unshift(number);
  }
  const grid = byId("grid");
  for (const [number, phone] of phones) {
    if (shown.includes(number)) continue;
    phone.root.remove();
    phones.delete(number);
  }
  let after = null;
  for (const number of shown) {
    const thread = store.threads.get(number);
    if (!thread) continue;
    let phone = phones.get(number);
    if (!phone) phones.set(number, (phone = newPhone(number)));
    const next = after ? after.nextSibling : grid.firstChild;
    if (next !== phone.root) grid.insertBefore(phone.root, next);
    after = phone.root;
    drawThread(phone, thread);
    drawOptOut(phone, store.optOuts.get(number));
  }
  const floor = shown.map((number) => store.threads.get(number)?.latest ?? "").reduce((low, at) => (at < low ? at : low), "9");
  const hidden = all.filter(({ number }) => !shown.includes(number));
  const newer = hidden.filter(({ latest }) => latest > floor).length;
  byId("more-news").hidden = newer === 0;
  say(byId("news"), `${count(newer, "handset")} with newer messages: show the newest`);
  byId("older").hidden = hidden.length === 0;
  say(byId("older"), `Show more (${count(hidden.length, "handset")} not shown)`);
  const examples = [...store.threads.values()].filter(isExample).length;
  byId("examples").hidden = examples === 0;
  say(byId("examples"), `${showsExamples ? "Fold away" : "Show"} the examples of make run (${count(examples, "handset")})`);
  const none = byId("no-phones");
  none.hidden = shown.length > 0 && all.length > 0;
  say(none, byId("find").value ? "No handset matches. Clear the search to see all of them." : "No message yet. Write one under Compose and press Send: its handset appears here.");
}

function newPhone(number) {
  const named = meaningOf(number);
  const meaning = named && named.name !== "received" ? named.meaning : "an ordinary handset";
  const list = make("ol", { class: "thread" });
  const earlier = make("button", { type: "button", class: "quiet earlier", hidden: true }, "Show earlier");
  const scroll = make("div", { class: "screen", tabindex: "0", role: "region", "aria-label": `Conversation of ${number}` }, make("div", {}, earlier, list));
  const words = make("input", { type: "text", placeholder: "Reply", "aria-label": `Reply from ${number}`, dir: "auto", maxlength: "1530" });
  const linked = make("input", { type: "checkbox" });
  const optOut = make("p", { class: "pill bad opt-out", hidden: true });
  const problem = make("p", { class: "error", role: "alert", hidden: true });
  const form = make("form", { class: "reply-form" },
    make("div", { class: "reply-line" }, words, make("button", { type: "submit", "aria-label": `Send the reply from ${number}` }, "➤")),
    make("label", { class: "small" }, linked, " say which message it replies to"),
    problem);
  const root = make("article", { class: "phone", tabindex: "-1", "aria-label": `Handset ${number}` },
    make("header", {}, make("h3", {}, make("a", { href: to("handset", number) }, make("bdi", {}, number))), make("p", { class: "small" }, prose(meaning)), optOut),
    scroll, store.meta.simulator ? form : null);
  const phone = { root, list, earlier, optOut, bubbles: new Map(), limit: BUBBLES_AT_ONCE, version: -1 };
  earlier.addEventListener("click", () => {
    phone.limit += 20;
    phone.version = -1;
    drawThread(phone, store.threads.get(number));
    scroll.focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!words.value) return;
    problem.hidden = true;
    const newest = store.threads.get(number)?.items.findLast(({ message }) => message?.gateway_id && !message.has_sender_id)?.message;
    const body = { handset: number, content: words.value };
    if (newest?.from) body.to = newest.from;
    if (linked.checked && newest) body.in_reply_to = newest.gateway_id;
    try {
      await call("POST", "/api/reply", body);
      words.value = "";
    } catch (refused) {
      problem.textContent = refused.message;
      problem.hidden = false;
    }
  });
  return phone;
}

// Only messages with despite_opt_out go to it.
function drawOptOut({ optOut }, record) {
  optOut.hidden = !record?.opted_out;
  say(optOut, record?.opted_out ? `Opted out ${BY[record.by] ?? "by hand"}${record.since ? `, ${day(record.since)}` : ""}` : "");
}

function drawThread(phone, thread) {
  if (phone.version === thread.version) return;
  phone.version = thread.version;
  const items = thread.items.slice(-phone.limit);
  const newest = items.findLast(({ message }) => message)?.id;
  const wanted = new Set(items.map(({ id }) => id));
  for (const [id, bubble] of phone.bubbles) {
    if (wanted.has(id)) continue;
    bubble.node.remove();
    phone.bubbles.delete(id);
  }
  let after = null;
  for (const item of items) {
    const known = phone.bubbles.get(item.id);
    const what = item.message ?? item.reply;
    const full = item.id === newest;
    let node = known?.node;
    if (!known || known.what !== what || known.full !== full) {
      const held = node?.contains(document.activeElement);
      const fresh = item.message ? messageBubble(item.message, full) : replyBubble(item.reply);
      node?.replaceWith(fresh);
      if (held) fresh.querySelector(".status")?.focus();
      phone.bubbles.set(item.id, { node: fresh, what, full });
      node = fresh;
    }
    const next = after ? after.nextSibling : phone.list.firstChild;
    if (next !== node) phone.list.insertBefore(node, next);
    after = node;
  }
  const left = thread.items.length - items.length;
  phone.earlier.hidden = left <= 0;
  say(phone.earlier, `Show earlier (${left.toLocaleString("en")})`);
}

function words(text) {
  return text === null || text === undefined
    ? make("p", { class: "words unseen" }, "text not seen by this machine")
    : make("p", { class: "words", dir: "auto" }, visible(text));
}

function messageBubble(message, full) {
  const marks = [message.urgent ? "urgent" : null, message.despite_opt_out ? "despite an opt-out" : null].filter(Boolean).join(" · ");
  const size = [message.segments ? count(message.segments, "segment") : null, message.encoding].filter(Boolean).join(" · ");
  return make("li", { class: `bubble in ${message.tone} ${message.status === "received" ? "arrived" : ""}`, "data-message": message.message_id },
    make("p", { class: "small who" }, make("span", {}, message.example ? "example, from " : null, isolated(message.from ?? "your account")), size ? make("span", {}, size) : null),
    marks ? make("p", { class: "small marks" }, marks) : null,
    words(message.text),
    make("a", { class: "status", href: to("message", message.message_id) },
      make("span", { class: "icon", "aria-hidden": "true" }, ICONS[message.tone] ?? "…"), " ", message.label ?? message.stage,
      message.problem && !(message.label ?? "").includes(message.problem) ? make("span", { class: "why" }, ": ", isolated(message.problem)) : null),
    full && message.steps?.length ? make("ol", { class: "steps" }, ...message.steps.map((step) => make("li", { class: step.tone ?? "plain" }, make("span", {}, step.name), time(step.at)))) : null);
}

function replyBubble(reply) {
  const repliedTo = messageOf(reply.message_id, reply.in_reply_to);
  const match = { exact: "replies to (exact)", inferred: "replies to (inferred)", none: "replies to no known message" }[reply.match] ?? "";
  return make("li", { class: "bubble out", "data-reply": reply.id },
    reply.binary ? make("p", { class: "words unseen" }, "binary, as stored: ", isolated(reply.text)) : words(reply.text),
    make("p", { class: "small who" }, make("span", {}, match, repliedTo?.text ? make("span", {}, ": “", isolated(shorten(repliedTo.text)), "”") : null), time(reply.at)));
}

const shorten = (text) => ([...text].length > 24 ? `${[...text].slice(0, 23).join("")}…` : text);
