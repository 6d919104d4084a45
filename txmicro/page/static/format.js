/** Numbers, durations and times as text. An unknown value is a dash. */

export const UNKNOWN = "–";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

const isUnknown = (value) => value === null || value === undefined || Number.isNaN(value);

function significant(value) {
  const digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

/** 1234 → "1,234". */
export function count(value) {
  return isUnknown(value) ? UNKNOWN : whole.format(value);
}

/** "1 worker", "2 workers". */
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** Events per second. */
export function rate(value) {
  if (isUnknown(value)) return UNKNOWN;
  return value >= 1000 ? whole.format(value) : significant(value);
}

/** Seconds → "0.35 ms", "12 ms", "1.5 s", "3 min 20 s", "2 h 5 min", "4 d 3 h". */
export function duration(seconds) {
  if (isUnknown(seconds)) return UNKNOWN;
  if (seconds < 0.9995) return `${significant(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${significant(seconds)} s`;
  for (const [unit, size, small, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (seconds >= size - part / 2) {
      const parts = Math.round(seconds / part);
      const rest = parts % (size / part);
      return `${Math.floor(parts / (size / part))} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  }
  return `${whole.format(seconds)} s`;
}

/** How long ago a Unix time is, in whole seconds: "just now", "3 s ago". */
export function age(unix, now) {
  if (isUnknown(unix)) return UNKNOWN;
  const seconds = Math.round(now - unix);
  return seconds > 0 ? `${duration(seconds)} ago` : "just now";
}

/** A Unix time in the reader's time zone, with the day if it is not today. */
export function clock(unix) {
  if (isUnknown(unix)) return UNKNOWN;
  const date = new Date(unix * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? time.format(date) : `${day.format(date)} ${time.format(date)}`;
}

/** A Unix time with all its digits, for a title. */
export function exact(unix) {
  return isUnknown(unix) ? "" : new Date(unix * 1000).toISOString();
}

/** The color class of an outcome, a level or a worker's state. */
export function tone(word) {
  if (/^(failed|dead|error|critical|lost|discarded)$/.test(word)) return "bad";
  if (/^(retried|returned|canceled|warn|suspect|resent)$/.test(word)) return "warn";
  return /^(succeeded|ready|forwarded|requeued|alive|up|ended)$/.test(word) ? "good" : "";
}
