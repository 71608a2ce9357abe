// Compose and load: puts messages on the queue.

import { byId, count, isolated, make, nameOf, say, visible } from "./text.js";
import { FORMS } from "./copy_as.js";
import { call } from "./server.js";
import { store } from "./store.js";
import { CHOICES, rfc3339, zone } from "./times.js";

// The fields of schemas/queue-message.schema.json, in its order.
const FIELDS = [
  { name: "destination", label: "To", hint: "+61491570006", list: "numbers", type: "tel" },
  { name: "content", label: "Text", area: true },
  { name: "source", label: "From (number or short code)", more: true },
  { name: "mask", label: "From (sender ID)", more: true, hint: "City Clinic" },
  { name: "class", label: "Routing class", more: true },
  { name: "integration_id", label: "Integration id", more: true, hint: "a UUID" },
  { name: "sms_class", label: "SMS class", more: true, choices: ["0", "1", "2", "3"], number: true },
  { name: "reference", label: "Reference", more: true },
  { name: "scheduled", label: "Not before", more: true, isTime: true, hint: "2026-12-24T09:00:00+11:00" },
  { name: "expires_at", label: "Not after", more: true, isTime: true, hint: "2026-12-24T09:05:00+11:00" },
  { name: "on_unknown", label: "If the outcome is unknown", more: true, choices: ["hold", "resend"] },
  { name: "despite_opt_out", label: "Despite an opt-out", more: true, choices: ["true", "false"], flag: true },
  { name: "message_id", label: "Message id", more: true, hint: "generated if empty" },
];
const PAUSE_IN_TYPING = 150;

const FIRST_MESSAGE = "Hello! This is my first message.";

const inputs = new Map();
let isPrefilled = false;
const touched = new Set();
let asked = 0;
let timer = 0;

export function startCompose(onSent) {
  const form = byId("compose");
  const more = make("details", { class: "more-fields" }, make("summary", {}, "More fields"));
  for (const field of FIELDS) (field.more ? more : form).append(fieldOf(field));
  form.append(
    more,
    make("details", { class: "more-fields" }, make("summary", {}, "What goes on the queue"),
      make("div", { class: "row" }, make("label", { for: "form" }, "As"), make("select", { id: "form", onchange: drawQueueMessage }, ...Object.keys(FORMS).map((form) => make("option", {}, form))),
        make("button", { type: "button", id: "copy", onclick: copy }, "Copy"), make("span", { id: "copy-says", class: "small", role: "status" })),
      make("pre", { id: "queue-message", tabindex: "0" }, "{}")),
    make("label", { class: "urgent small", title: "Use the urgent queue, where it does not wait behind other messages" }, make("input", { type: "checkbox", id: "urgent" }), " Urgent"),
    make("p", { id: "compose-says", class: "small", role: "status" }),
    make("button", { type: "submit", class: "primary", title: "Ctrl+Enter" }, "Send"),
    make("datalist", { id: "numbers" }));
  inputs.get("content").after(
    make("p", { id: "counter", class: "small counter" }, "0 characters"),
    make("div", { id: "culprits", class: "culprits", hidden: true }));
  inputs.get("destination").after(make("select", { id: "scenario", "aria-label": "Choose a handset by what happens to its messages", hidden: true, onchange: (event) => choose("destination", event.target.value) }));
  form.addEventListener("submit", (event) => { event.preventDefault(); send(onSent); });
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
  form.addEventListener("input", later);
  form.addEventListener("focusout", (event) => { if (event.target.name && event.target.value) { touched.add(event.target.name); later(); } });
  byId("load").addEventListener("submit", (event) => { event.preventDefault(); startLoad(); });
  byId("load-stop").addEventListener("click", () => tell("load-says", () => call("POST", "/api/load/stop")));
  byId("load-count").addEventListener("input", (event) => say(byId("load-go"), `Send ${event.target.value || 0}`));
}

function fieldOf(field) {
  const id = `field-${field.name}`;
  const common = { id, name: field.name, "aria-describedby": `error-${field.name}${field.area ? " counter" : ""}`, spellcheck: field.area ? null : "false" };
  let input;
  if (field.choices) input = make("select", common, ...["", ...field.choices].map((value) => make("option", { value }, value || "not set")));
  else if (field.area) input = make("textarea", { ...common, rows: "3", dir: "auto" });
  else input = make("input", { ...common, type: field.type ?? "text", placeholder: field.hint ?? null, list: field.list ?? null });
  inputs.set(field.name, input);
  return make("div", { class: "field" }, make("label", { for: id }, field.label, " ", make("code", {}, field.name)), input,
    field.isTime ? timesFor(field.name) : null, make("p", { class: "error", id: `error-${field.name}`, hidden: true }));
}

const timesFor = (name) => make("div", { class: "culprits" },
  ...CHOICES.map(({ label, at }) => make("button", { type: "button", class: "choice", onclick: () => choose(name, rfc3339(at(new Date()))) }, label)),
  make("span", { class: "small" }, zone()));

function choose(name, value) {
  inputs.get(name).value = value;
  touched.add(name);
  later();
}

/** Returns the queue message as typed, without empty fields. */
function typed() {
  const message = {};
  for (const field of FIELDS) {
    const value = inputs.get(field.name).value;
    if (value !== "") message[field.name] = field.number ? Number(value) : field.flag ? value === "true" : value;
  }
  return message;
}

const queueMessage = () => FORMS[byId("form").value](typed(), byId("urgent").checked);
const drawQueueMessage = () => byId("queue-message").replaceChildren(visible(queueMessage()));

async function copy() {
  const copied = navigator.clipboard.writeText(queueMessage());
  say(byId("copy-says"), await copied.then(() => "Copied.", () => "The browser does not allow copying: select the text instead."));
}

function later() {
  say(byId("copy-says"), "");
  drawQueueMessage();
  clearTimeout(timer);
  timer = setTimeout(validate, PAUSE_IN_TYPING);
}

async function validate() {
  const mine = ++asked;
  try {
    const response = await call("POST", "/api/validate", typed());
    if (mine !== asked) return;
    showErrors(response.fields ?? {}, touched);
    showCounter(response);
    say(byId("compose-says"), "");
  } catch (refused) {
    if (mine === asked) say(byId("compose-says"), refused.message);
  }
}

function showErrors(fields, which) {
  for (const [name, input] of inputs) {
    const problem = fields[name] && (!which || which.has(name)) ? fields[name] : "";
    const line = byId(`error-${name}`);
    say(line, problem);
    line.hidden = !problem;
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    if (problem && !which) input.closest("details")?.setAttribute("open", "");
  }
}

function showCounter({ segments, encoding, units, left_in_segment: left, culprits = [] }) {
  const full = segments ? `${count(segments, "segment")} · ${encoding} · ${count(units ?? 0, "unit")}, ${left} left in this segment` : "0 characters";
  say(byId("counter"), full);
  const box = byId("culprits");
  box.hidden = culprits.length === 0;
  if (culprits.length === 0) return box.replaceChildren();
  const shown = culprits.slice(0, 8);
  box.replaceChildren(
    make("span", { class: "small" }, "UCS-2 because of "),
    ...shown.map(({ char, at, name }) => make("button", { type: "button", class: "culprit", onclick: () => select(at, char) },
      make("span", { class: "away" }, "Select "), isolated(char), " ", make("span", { class: "small" }, (name ?? nameOf(char)).toLowerCase()), make("span", { class: "away" }, ` at character ${at + 1}`))),
    culprits.length > shown.length ? make("span", { class: "small" }, ` and ${culprits.length - shown.length} more`) : "");
}

// `at` counts Unicode characters; a text field counts UTF-16 units.
function select(at, char) {
  const area = inputs.get("content");
  const from = [...area.value].slice(0, at).join("").length;
  area.focus();
  area.setSelectionRange(from, from + char.length);
}

async function send(onSent) {
  clearTimeout(timer);
  asked += 1;
  const message = typed();
  try {
    const { message_id: messageId } = await call("POST", "/api/send", byId("urgent").checked ? { ...message, urgent: true } : message);
    showErrors({});
    touched.clear();
    inputs.get("content").value = "";
    inputs.get("message_id").value = "";
    showCounter({});
    drawQueueMessage();
    byId("compose-says").replaceChildren("On the queue as ", isolated(messageId));
    onSent(messageId, message.destination);
  } catch (refused) {
    showErrors(refused.fields);
    const wrong = Object.keys(refused.fields);
    const isMarked = wrong.length > 0 && wrong.every((name) => inputs.has(name));
    say(byId("compose-says"), isMarked ? `Not queued: see ${count(wrong.length, "marked field")}.` : refused.message);
    inputs.get(wrong.find((name) => inputs.has(name)))?.focus();
  }
}

async function tell(id, work) {
  try {
    await work();
    say(byId(id), "");
    return true;
  } catch (refused) {
    say(byId(id), refused.message);
    return false;
  }
}

async function startLoad() {
  const body = { count: Number(byId("load-count").value) };
  byId("load-go").disabled = true;
  if (!(await tell("load-says", () => call("POST", "/api/load", body)))) byId("load-go").disabled = isRunning(store.load);
}

const isRunning = (load) => Boolean(load && !load.done);

/** Shows the progress of the load; `null`: none was started. */
export function drawLoad() {
  const load = store.load;
  const running = isRunning(load);
  byId("load-go").disabled = running;
  byId("load-go").hidden = running;
  byId("load-stop").hidden = !running;
  const bar = byId("load-bar");
  bar.hidden = !load;
  if (!load) {
    if (!store.meta.far) say(byId("load-says"), "");
    return;
  }
  bar.max = Math.max(1, load.total);
  bar.value = load.finished ?? 0;
  const figures = `${load.queued} queued, ${load.accepted} accepted, ${load.finished} finished of ${load.total}`;
  const seconds = load.seconds === null || load.seconds === undefined ? "" : `, ${Number(load.seconds).toFixed(1)} s`;
  say(byId("load-says"), load.problem ? `${load.problem} (${figures})` : `${figures}${seconds}`);
}

// Once, so that Send works at one click; never replaces what the user has typed.
function fillIn() {
  isPrefilled = true;
  if (inputs.get("content").value || [...store.messages.values()].some(({ example }) => !example)) return;
  inputs.get("content").value = FIRST_MESSAGE;
  later();
}

/** Offers the simulator's magic numbers. For a gateway that costs money, shows a warning and disables load. */
export function drawGateway() {
  const { far, gateway, numbers = [] } = store.meta;
  byId("numbers").replaceChildren(...numbers.map(({ number, name, meaning }) => make("option", { value: number, label: `${number} ${meaning ?? name}` })));
  inputs.get("destination").value ||= numbers[0]?.number ?? "";
  byId("scenario").hidden = numbers.length === 0;
  byId("scenario").replaceChildren(make("option", { value: "", disabled: true, selected: true }, "Pick what happens to it"),
    ...numbers.map(({ number, name, meaning }) => make("option", { value: number }, `${name.replaceAll("_", " ")}: ${(meaning ?? "").replaceAll("`", "")}`)));
  if (numbers.length > 0 && !isPrefilled) fillIn();
  drawQueueMessage();
  byId("far").hidden = !far;
  say(byId("far"), far ? `What you send here goes to ${gateway}: real handsets, and it may cost money.` : "");
  for (const input of byId("load").elements) input.disabled = Boolean(far);
  if (far) say(byId("load-says"), "No load is sent to a gateway that may cost money.");
}
