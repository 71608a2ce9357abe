// Three first steps for a new user: send, reply, make the gateway fail and recover. Once dismissed, they don't come back.

import { byId, make, notice } from "./text.js";
import { go, to } from "./links.js";
import { call } from "./server.js";
import { store } from "./store.js";

const DISMISSED = "optus-sms.tour.dismissed";
let wasBroken = false;
let isMended = false;
let drawn = "";

export function startTour() {
  byId("tour-dismiss").addEventListener("click", () => {
    remember();
    drawTour();
    byId("phones").focus();
  });
}

/** Clears the ticks after a restart of `make run`, because they belong to one run. */
export function forgetTour() {
  wasBroken = isMended = false;
}

export function drawTour() {
  const own = [...store.messages.values()].findLast((message) => !message.example);
  const isBroken = Boolean(store.faults?.active?.includes("gateway_down"));
  isMended ||= wasBroken && !isBroken;
  wasBroken = isBroken;
  const isReplied = [...store.replies.values()].some(({ message_id: id }) => id && !store.messages.get(id)?.example);
  byId("tour").hidden = isDismissed() || store.meta.simulator !== true || !store.isConnected;
  const steps = [
    { done: Boolean(own), title: "Send a message", does: "It is queued, sent to the simulated gateway, and arrives on a handset below.", label: "Send your first message", act: () => byId("compose").requestSubmit() },
    { done: isReplied, title: "Reply to it", does: "Type into the handset. The reply comes back by a callback, as from a real one.", label: "Go to the handset", act: own && (() => go(to("handset", own.to))) },
    { done: isMended, title: "Make the gateway fail and recover", does: "While it is down, messages wait and are retried. Send one, and watch it arrive later.", label: isBroken ? "End the fault" : "Make it fail", act: isBroken ? () => fault("DELETE") : () => fault("POST", { name: "gateway_down", on: true }) },
  ];
  // Redrawn only if it changes, so that the focus stays.
  const now = JSON.stringify(steps.map(({ done, label, act }) => [done, label, Boolean(act)]));
  if (now === drawn) return;
  drawn = now;
  byId("tour-steps").replaceChildren(...steps.map(({ done, title, does, label, act }) => make("li", { class: done ? "done" : "" },
    make("p", { class: "strong" }, done ? make("span", { class: "away" }, "Done: ") : null, title), make("p", { class: "small" }, does),
    done && label !== "End the fault" ? null : make("button", { type: "button", disabled: !act, onclick: act || null }, label))));
}

const fault = (method, body) => call(method, "/api/faults", body).catch((refused) => notice(refused.message));

// A browser that stores nothing raises an exception.
function isDismissed() {
  try {
    return localStorage.getItem(DISMISSED) !== null || byId("tour").dataset.dismissed === "true";
  } catch {
    return byId("tour").dataset.dismissed === "true";
  }
}

function remember() {
  byId("tour").dataset.dismissed = "true";
  try {
    localStorage.setItem(DISMISSED, "true");
  } catch { /* then it is kept until the page is loaded again */ }
}
