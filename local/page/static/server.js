// Calls to the server of this page.

const tokenOf = (page) => page.querySelector('meta[name="page-token"]')?.content ?? "";
let token = tokenOf(document);

/** What went wrong, in the server's sentence; `fields` says it per field of the queue message. */
export class Refused extends Error {
  constructor(message, status, fields) {
    super(message);
    this.status = status;
    this.fields = fields ?? {};
  }
}

/** The JSON of the answer; throws Refused. */
export async function call(method, path, body) {
  let answer = await ask(method, path, body);
  if (answer.status === 403 && method !== "GET") {
    await renewToken();
    answer = await ask(method, path, body);
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(said.error ?? `The page's server answered ${answer.status}.`, answer.status, said.fields);
  return said;
}

async function ask(method, path, body) {
  const headers = {};
  if (method !== "GET") headers["X-Page-Token"] = token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused("make run does not answer. Start it again in its terminal: make run.", 0);
  }
}

// A new start of `make run` has a new token, and this page may be older than it.
async function renewToken() {
  const page = await (await fetch("/")).text();
  token = tokenOf(new DOMParser().parseFromString(page, "text/html"));
}

/** Follows the stream for as long as the page is open; `onData(kind, data)`, `onState(open)`. */
export function follow(onData, onState) {
  const stream = new EventSource("/api/stream");
  for (const kind of ["snapshot", "update"]) stream.addEventListener(kind, (event) => onData(kind, JSON.parse(event.data)));
  stream.addEventListener("open", () => onState(true));
  stream.addEventListener("error", () => {
    onState(false);
    // The browser gives up for good after a refusal; a restart of `make run` must still be found.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => follow(onData, onState), 2000);
  });
}
