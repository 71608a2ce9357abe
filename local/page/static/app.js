// Starts the page: reads the stream and draws its changes once per frame.

import { byId, count, make, notice, say } from "./text.js";
import { startLinks } from "./links.js";
import { follow, NO_RESPONSE } from "./server.js";
import { store, take } from "./store.js";
import { drawGateway, drawLoad, startCompose } from "./compose.js";
import { drawEvents, forgetEvents, startEvents } from "./events.js";
import { drawFaults, startFaults } from "./faults.js";
import { bringForward, drawPhones, forgetPhones, startPhones } from "./phones.js";
import { drawList, forgetTimeline, goToGroup, refreshTimeline, showGroup, showTab, showTimeline, startSide } from "./side.js";
import { drawStrip, startStrip } from "./strip.js";
import { drawTour, forgetTour, startTour } from "./tour.js";

const SPEAK_EVERY = 3000;

let changed = new Set();
let changedMessages = new Set();
let frame = 0;
let awaited = null;
let news = noNews();
let speaking = 0;
let runId;

function onData(kind, data) {
  const { names, fresh } = take(kind, data);
  for (const name of names) changed.add(name);
  for (const [before, message] of fresh) {
    changedMessages.add(message.message_id);
    if (kind === "update") hear(before, message);
  }
  if (kind === "snapshot") {
    forgetPhones();
    forgetEvents();
    forgetTimeline();
    if (runId !== undefined && store.meta.run_id !== runId) onRestart();
    runId = store.meta.run_id;
  } else if (data.replies || data.opt_outs) {
    news.replies += data.replies?.length ?? 0;
    news.optOuts += data.opt_outs?.filter((each) => each.opted_out).length ?? 0;
    speakSoon();
  }
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  const [now, messageIds] = [changed, changedMessages];
  changed = new Set();
  changedMessages = new Set();
  if (awaited && store.threads.has(awaited.number)) {
    bringForward(awaited.number, awaited.focus);
    if (awaited.focus) notice("");
    awaited = null;
  } else if (awaited?.focus && store.isConnected) notice(`No message to or from ${awaited.number} is known here.`);
  if (now.has("meta")) drawMeta();
  if (now.has("strip") || now.has("meta")) drawStrip();
  if (now.has("faults") || now.has("meta")) drawFaults();
  if (now.has("load")) drawLoad();
  if (now.has("messages") || now.has("replies") || now.has("opt_outs") || now.has("meta")) drawPhones();
  if (now.has("messages") || now.has("dead_letters")) drawList();
  if (now.has("events") || now.has("meta")) drawEvents();
  if (["messages", "replies", "faults", "meta"].some((name) => now.has(name))) drawTour();
  refreshTimeline(messageIds);
}

function drawMeta() {
  drawGateway();
  const { simulator, far, gateway } = store.meta;
  say(byId("where"), simulator ? "Local stack and simulator: nothing leaves this machine." : far ? `Real messages go to ${gateway}.` : `Local stack, gateway ${gateway}.`);
}

function noNews() {
  return { delivered: 0, failed: 0, unknown: 0, replies: 0, optOuts: 0 };
}

// A screen reader gets a summary every few seconds, not each of a thousand changes.
function hear(before, message) {
  if (before?.tone === message.tone) return;
  if (message.tone === "good") news.delivered += 1;
  else if (message.tone === "bad") news.failed += 1;
  else if (message.stage?.startsWith("unknown")) news.unknown += 1;
  else return;
  speakSoon();
}

function speakSoon() {
  speaking ||= setTimeout(() => {
    speaking = 0;
    const parts = [
      news.delivered && `${news.delivered} delivered`,
      news.failed && `${news.failed} failed`,
      news.unknown && `${news.unknown} unknown`,
      news.replies && count(news.replies, "reply", "replies"),
      news.optOuts && `${count(news.optOuts, "handset")} opted out`,
    ].filter(Boolean);
    news = noNews();
    say(byId("spoken"), parts.join(", "));
  }, SPEAK_EVERY);
}

// One banner for the connection to `make run`. `problem`: null while connected.
function onState(problem) {
  store.isConnected = problem === null;
  document.body.classList.toggle("lost", !store.isConnected);
  const banner = byId("banner");
  banner.hidden = store.isConnected;
  if (store.isConnected) forgetSilence();
  else say(banner, problem);
  drawStrip();
  drawTour();
}

function onRestart() {
  forgetTour();
  const banner = byId("banner");
  say(byId("compose-says"), "");
  banner.replaceChildren("make run was started again. What the earlier one showed is gone. ",
    make("button", { type: "button", class: "quiet", onclick: () => { banner.hidden = true; } }, "Dismiss"));
  banner.hidden = false;
}

// Errors that were shown during the disconnection no longer hold, wherever they are.
function forgetSilence() {
  byId("notice").hidden = true;
  for (const line of document.querySelectorAll("[role=status], [role=alert], .error")) if (line.textContent === NO_RESPONSE) say(line, "");
}

function bringSoon(number, focus = false) {
  awaited = { number, focus };
  changed.add("messages");
  frame ||= requestAnimationFrame(draw);
}

startStrip(goToGroup);
startCompose((_messageId, number) => bringSoon(number));
startFaults();
startSide();
startEvents();
startPhones();
startTour();
startLinks({
  events: () => showTab("events"),
  messages: showGroup,
  "dead-letters": () => showGroup("dead_letters"),
  timeline: () => showTab("timeline"),
  message: (messageId) => (messageId ? showTimeline(messageId) : showTab("timeline")),
  handset: (number) => number && bringSoon(number, true),
});
follow(onData, onState);
