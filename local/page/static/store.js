// The page's data, collected from the stream.

const EVENTS_KEPT = 500;
const PARTS = ["meta", "strip", "faults", "load", "dead_letters", "events", "messages", "replies", "opt_outs"];

export const store = { isConnected: false, meta: {}, strip: {}, faults: null, load: null, deadLetters: [], events: [], messages: new Map(), replies: new Map(), optOuts: new Map(), threads: new Map() };

/** Adds a snapshot or update; returns the names of the changed parts, and the new or changed messages. */
export function take(kind, data) {
  if (kind === "snapshot") Object.assign(store, { faults: null, load: null, deadLetters: [], events: [], messages: new Map(), replies: new Map(), optOuts: new Map(), threads: new Map() });
  for (const name of ["meta", "strip", "faults", "load"]) if (data[name]) store[name] = data[name];
  if (data.dead_letters) store.deadLetters = data.dead_letters;
  if (data.events) store.events = store.events.concat(data.events).slice(-EVENTS_KEPT);
  const fresh = [];
  for (const message of data.messages ?? []) {
    const before = store.messages.get(message.message_id);
    store.messages.set(message.message_id, message);
    place(message.to, before, { id: `m:${message.message_id}`, at: message.queued_at ?? message.steps?.[0]?.at ?? "", message });
    fresh.push([before, message]);
  }
  for (const reply of data.replies ?? []) {
    const before = store.replies.get(reply.id);
    store.replies.set(reply.id, reply);
    place(reply.from, before, { id: `r:${reply.id}`, at: reply.at ?? "", reply });
  }
  for (const optOut of data.opt_outs ?? []) store.optOuts.set(optOut.handset, optOut);
  return { names: new Set(kind === "snapshot" ? PARTS : Object.keys(data)), fresh };
}

function place(number, before, item) {
  const name = number ?? "unknown number";
  let thread = store.threads.get(name);
  if (!thread) store.threads.set(name, (thread = { number: name, items: [], latest: "", version: 0 }));
  thread.version += 1;
  const index = before ? thread.items.findLastIndex((each) => each.id === item.id) : -1;
  if (index >= 0) {
    thread.items[index] = { ...item, at: thread.items[index].at };
  } else {
    let to = thread.items.length;
    while (to > 0 && thread.items[to - 1].at > item.at) to -= 1;
    thread.items.splice(to, 0, item);
    if (item.at > thread.latest) thread.latest = item.at;
  }
}

/** Returns whether all messages of a handset are examples of `make run`. */
export function isExample(thread) {
  const messages = thread.items.flatMap(({ message }) => message ?? []);
  return messages.length > 0 && messages.every(({ example }) => example);
}

/** Returns the message with this message_id or gateway ID, if the page has it. */
export function messageOf(messageId, gatewayId) {
  if (messageId && store.messages.has(messageId)) return store.messages.get(messageId);
  if (!gatewayId) return undefined;
  return [...store.messages.values()].find((message) => message.gateway_id === gatewayId);
}

export const meaningOf = (number) => (store.meta.numbers ?? []).find((each) => each.number === number);
