// Times to choose from, in RFC 3339 with the offset of the browser's zone at that time. Pure.

const two = (number) => String(number).padStart(2, "0");

export function rfc3339(when) {
  const minutes = -when.getTimezoneOffset();
  const offset = `${minutes < 0 ? "-" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
  const day = `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
  return `${day}T${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}${offset}`;
}

const after = (minutes) => (now) => new Date(now.getTime() + minutes * 60_000);
// By the calendar, because a day on which clocks change does not have 24 hours.
const tomorrowAt = (hour) => (now) => new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1, hour);

export const CHOICES = [
  { label: "in 5 minutes", at: after(5) },
  { label: "in 1 hour", at: after(60) },
  { label: "tomorrow 9:00", at: tomorrowAt(9) },
];
export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;
