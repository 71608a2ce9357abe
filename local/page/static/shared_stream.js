// One stream for all windows of this page: a browser has six connections to a server, and a seventh window would not load.
// The window that holds the lock follows the server and passes all changes on. When it closes, the next one takes its
// place.

const NAME = "optus-sms-stream";

/**
 * `onMessage({ kind, text })`: a snapshot or update; `onState(problem)`. `connect(onEvent, onState)` opens a stream and
 * returns the function that closes it.
 */
export function share(connect, onMessage, onState) {
  const channel = new BroadcastChannel(NAME);
  const left = new AbortController();
  let revision = null;
  let waiting = [];
  let close = () => {};

  function take({ kind, text, id }) {
    if (kind === "snapshot") {
      onMessage(kind, text);
      revision = id;
      waiting.splice(0).forEach(take);
    } else if (revision === null) waiting.push({ kind, text, id });
    else if (id > revision) {
      onMessage(kind, text);
      revision = id;
    }
  }

  // Until this window has a snapshot, changes that are passed on wait, so that none is missed.
  function listen() {
    channel.onmessage = ({ data }) => (data.kind ? take(data) : onState(data.problem));
    close = connect((event) => { close(); take(event); }, onState);
  }

  function lead() {
    if (left.signal.aborted) return null;
    close();
    channel.onmessage = null;
    close = connect(
      (event) => { take(event); channel.postMessage(event); },
      (problem) => { onState(problem); channel.postMessage({ problem }); });
    return new Promise((resolve) => { left.signal.addEventListener("abort", resolve); });
  }

  function start() {
    if (!navigator.locks) return lead();
    return navigator.locks.request(NAME, { ifAvailable: true }, (lock) => (lock ? lead() : null)).then(() => {
      if (left.signal.aborted) return;
      listen();
      navigator.locks.request(NAME, { signal: left.signal }, lead).catch(() => {});
    });
  }

  start();
  return () => {
    left.abort();
    close();
    channel.close();
  };
}
