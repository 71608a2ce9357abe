// Calls to the server of this page.

import { share } from "./shared_stream.js";

const tokenOf = (page) => page.querySelector('meta[name="page-token"]')?.content ?? "";
const TRY_AGAIN_AFTER = 2000;
const LEAVE_AFTER = 30_000;
const LOST = "No connection: make run has ended or is starting. What you see is the last known state. Start make run again; this page reconnects automatically.";
const FULL = "Too many browsers have this page open. Close it in one of them; this page then connects automatically.";
export const NO_RESPONSE = "make run does not respond. Start it again in its terminal: make run.";
let token = tokenOf(document);

/** An error in the server's words; `fields`: the errors by field of the queue message. */
export class Refused extends Error {
  constructor(message, fields = {}) {
    super(message);
    this.fields = fields;
  }
}

/** Returns the JSON of the response; throws Refused. */
export async function call(method, path, body) {
  let response = await ask(method, path, body);
  if (response.status === 403 && method !== "GET") {
    await renewToken();
    response = await ask(method, path, body);
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(said.error ?? `The page's server returned ${response.status}.`, said.fields);
  return said;
}

async function ask(method, path, body) {
  const headers = {};
  if (method !== "GET") headers["X-Page-Token"] = token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(NO_RESPONSE);
  }
}

// After a restart of `make run` the token of an older page is no longer valid.
async function renewToken() {
  const page = await (await fetch("/")).text();
  token = tokenOf(new DOMParser().parseFromString(page, "text/html"));
}

/** Follows the stream while the page is visible; `onData(kind, data)`, `onState(problem)`: null while connected. */
export function follow(onData, onState) {
  let leave = null;
  let leaving = 0;
  const join = () => { leave ??= share(connect, (kind, text) => onData(kind, JSON.parse(text)), onState); };
  // A hidden page needs no connection.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(() => { leave?.(); leave = null; }, LEAVE_AFTER);
    else join();
  });
  if (!document.hidden) join();
}

// Opens the server's stream, and reopens it until it is closed; returns the function that closes it.
function connect(onEvent, onState) {
  let stream = null;
  let again = 0;
  function open() {
    const mine = stream = new EventSource("/api/stream");
    for (const kind of ["snapshot", "update"]) mine.addEventListener(kind, (event) => onEvent({ kind, text: event.data, id: Number(event.lastEventId) }));
    mine.addEventListener("open", () => onState(null));
    mine.addEventListener("error", async () => {
      if (mine !== stream) return;
      onState(LOST);
      if (mine.readyState !== EventSource.CLOSED) return;
      // After a refusal the browser never retries, so this does, to find a restarted `make run`.
      again = setTimeout(open, TRY_AGAIN_AFTER);
      if (await isFull() && mine === stream) onState(FULL);
    });
  }
  open();
  return () => {
    clearTimeout(again);
    stream?.close();
    stream = null;
  };
}

// An EventSource does not report why it was refused.
async function isFull() {
  const response = await fetch("/api/stream", { method: "HEAD" }).catch(() => null);
  return response?.status === 503;
}
