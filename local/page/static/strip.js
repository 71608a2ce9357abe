// The strip of numbers on top, and the health of the stack.

import { byId, clock, make, notice, say } from "./text.js";
import { call } from "./server.js";
import { store } from "./store.js";
import { startToolbar } from "./toolbar.js";

export const COUNTERS = [
  { name: "queued", label: "queued", tone: "plain" },
  { name: "in_flight", label: "in flight", tone: "plain" },
  { name: "accepted", label: "accepted", tone: "plain" },
  { name: "delivered", label: "delivered", tone: "good" },
  { name: "undelivered", label: "not delivered", tone: "bad" },
  { name: "unknown", label: "unknown", tone: "unsure" },
  { name: "rejected", label: "rejected", tone: "bad" },
  { name: "expired", label: "expired", tone: "bad" },
  { name: "recalled", label: "recalled", tone: "unsure" },
  { name: "dead_letters", label: "dead letters", tone: "bad" },
];

const figures = new Map();

export function startStrip(onGroup) {
  startToolbar(byId("bar"));
  for (const { name, label, tone } of COUNTERS) {
    const figure = make("span", { class: "figure" }, "–");
    const button = make("button", { type: "button", class: `number ${tone}`, "data-group": name, onclick: () => onGroup(name) }, figure, " ", make("span", { class: "what" }, label), make("span", { class: "away" }));
    figures.set(name, { figure, button });
    byId("strip").append(button);
  }
  byId("state").append(
    make("details", { id: "health-card" }, make("summary", { id: "health" }, ""), make("p", { id: "health-why", class: "card small" })),
    make("p", { id: "paused" }, ""),
    make("button", { type: "button", id: "pause", class: "quiet", onclick: pause }, "Pause"));
}

const isPaused = ({ paused, paused_lanes: lanes }) => Boolean(paused || lanes?.length);

async function pause() {
  try {
    await call("POST", isPaused(store.strip) ? "/api/resume" : "/api/pause");
    notice("");
  } catch (refused) {
    notice(refused.message);
  }
}

// The examples' dead letters must not alarm new users.
function markExamples(button, all, ofExamples) {
  const isAll = ofExamples > 0 && all === ofExamples;
  button.classList.toggle("bad", !isAll);
  say(button.querySelector(".away"), isAll ? ", all of the examples" : "");
}

export function drawStrip() {
  const { strip, isConnected } = store;
  for (const [name, { figure, button }] of figures) {
    const value = strip[name];
    say(figure, value === undefined || value === null ? "–" : Number(value).toLocaleString("en"));
    button.classList.toggle("some", value > 0);
    if (name === "dead_letters") markExamples(button, value, strip.dead_letters_of_examples);
  }
  const health = byId("health");
  const word = (isConnected && strip.health) || "unknown";
  health.className = `pill ${{ healthy: "good", unhealthy: "bad" }[word] ?? "plain"}`;
  say(health, !isConnected ? "gateway: no connection" : word !== "unknown" ? `gateway ${word}` : strip.checked_at ? "gateway: being checked" : "gateway: not checked yet");
  say(byId("health-why"), isConnected && strip.checked_at ? `${strip.health_reason}; checked at ${clock(strip.checked_at)}. The state changes after two or three checks in a row.` : "No check yet. The stack checks the gateway once a minute.");
  const { ordinary = 0, urgent = 0 } = strip.depths ?? {};
  say(byId("depths"), isConnected ? `queue ${ordinary}, urgent ${urgent}` : "queues: unknown");
  const paused = byId("paused");
  paused.className = `pill ${isPaused(strip) && isConnected ? "unsure" : "plain"}`;
  const why = strip.pause_reason ? strip.pause_reason.replaceAll("_", " ") : "by hand";
  say(paused, !isConnected ? "sending state: unknown" : strip.paused ? `paused: ${why}` : strip.paused_lanes?.length ? `${strip.paused_lanes.join(", ")} lane paused: by hand` : "sending");
  say(byId("pause"), isPaused(strip) ? "Resume" : "Pause");
  byId("pause").disabled = !isConnected;
}
