// Shows untrusted text: always as text nodes, with invisible characters made visible.

const EMOJI = "\\p{RI}\\p{RI}|[0-9#*]\\uFE0F?\\u20E3|\\p{ExtPict}(?:\\uFE0F|\\p{EMod})?(?:[\\u{E0020}-\\u{E007F}]+|(?:\\u200D\\p{ExtPict}(?:\\uFE0F|\\p{EMod})?)*)";
const HIDDEN = "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Co}\\p{Cs}\\p{DI}]";
const SPECIAL = new RegExp(`(${EMOJI})|(${HIDDEN})`, "gu");
const C0 = "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US".split(" ");
const NAMES = new Map([
  [0x7f, "DEL"], [0xad, "SHY"], [0x61c, "ALM"], [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"], [0x200e, "LRM"],
  [0x200f, "RLM"], [0x2028, "LS"], [0x2029, "PS"], [0x202a, "LRE"], [0x202b, "RLE"], [0x202c, "PDF"], [0x202d, "LRO"],
  [0x202e, "RLO"], [0x2060, "WJ"], [0x2066, "LRI"], [0x2067, "RLI"], [0x2068, "FSI"], [0x2069, "PDI"], [0xfe0f, "VS16"],
  [0xfeff, "BOM"],
]);

const hex = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
export const nameOf = (char) => C0[char.codePointAt(0)] ?? NAMES.get(char.codePointAt(0)) ?? hex(char);

/** Returns a fragment that shows `text` exactly; each invisible character is a chip with its name. */
export function visible(text) {
  const fragment = document.createDocumentFragment();
  let from = 0;
  for (const found of text.matchAll(SPECIAL)) {
    if (found[1] || found[0] === "\n") continue;
    fragment.append(text.slice(from, found.index), make("span", { class: "chip", title: `${hex(found[0])}, an invisible character` }, nameOf(found[0])));
    from = found.index + found[0].length;
  }
  fragment.append(text.slice(from));
  return fragment;
}

/** Returns an element. Children are nodes or strings; strings become text nodes, nullish ones are left out. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Returns a sentence of the command line, with the text in back-ticks as code. */
export function prose(text) {
  const fragment = document.createDocumentFragment();
  String(text ?? "").split(/`([^`]+)`/).forEach((part, index) => fragment.append(index % 2 ? make("code", {}, visible(part)) : visible(part)));
  return fragment;
}

/** Returns untrusted words as a part of a line. */
export const isolated = (text) => make("bdi", {}, visible(String(text ?? "")));

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** Returns the local time of day of an RFC 3339 time; any other text unchanged. */
export function clock(at) {
  const when = at ? new Date(at) : null;
  return when && !Number.isNaN(when.getTime()) ? CLOCK.format(when) : String(at ?? "");
}
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
/** The same with the day, for times that may be long ago. */
export function day(at) {
  const when = new Date(at);
  return Number.isNaN(when.getTime()) ? String(at) : DAY.format(when);
}
export const time = (at) => make("time", { datetime: at || null, title: at || null }, clock(at));
export const count = (n, one, many = `${one}s`) => `${Number(n).toLocaleString("en")} ${n === 1 ? one : many}`;
export const byId = (id) => document.getElementById(id);
/** Shows the line under the banner; empty: none. */
export function notice(text) {
  say(byId("notice"), text);
  byId("notice").hidden = !text;
}
/** Sets a text only if it differs, so that the same text is neither laid out nor spoken again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
