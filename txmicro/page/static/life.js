/** The picture of a job's life: a row for each worker, and time from left to right. */

import { setAttribute, svg } from "./dom.js";
import { duration } from "./format.js";

const ROW = 44;
const TOP = 30;
const RIGHT = 24;
const LEAST = 3; // pixels of the shortest bar
const KINDS = { ran: "ran", sent: "sent", resent: "sent again", ended: "ended", dead: "became a dead letter", requeued: "requeued", discarded: "discarded" };
const BARS = { succeeded: "", forwarded: "soft", failed: "bad", dead: "bad" };
const MARKS = { sent: "", resent: "warn", dead: "bad", discarded: "bad", requeued: "warn" };

/** Return when a step began: a run's step has the time of its end. */
export function began(step) {
  return step.kind === "ran" ? step.time - (step.seconds ?? 0) : step.time;
}

/** Return the name of the row that a step is in. An operator requeues and discards, not a worker. */
const where = (step) => step.worker || (/^(requeued|discarded)$/.test(step.kind) ? "operator" : "unknown");

const queued = (step) => began(step) - (step.kind === "ran" ? (step.wait ?? 0) : 0);

/** Return the picture of *steps*, *width* pixels wide. */
export function lifePicture(steps, width) {
  const shown = steps.filter((step) => step.kind !== "log").toSorted((a, b) => queued(a) - queued(b));
  const workers = [...new Set(shown.map(where))];
  const left = Math.min(width * 0.34, 30 + 7.2 * Math.max(...workers.map((name) => short(name, width).length)));
  const start = Math.min(...shown.map(queued));
  const end = Math.max(...shown.map((step) => step.time), start + 1e-4);
  const x = (time) => left + ((time - start) / (end - start)) * (width - left - RIGHT);
  const y = (step) => TOP + (workers.indexOf(where(step)) + 0.5) * ROW;
  const height = TOP + workers.length * ROW + 8;
  return svg(
    "svg",
    { class: "life", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Life of the job: ${shown.map(say).join("; ")}` },
    svg("defs", {}, head()),
    ticks(end - start).map((at) => tick(x(start + at), at, height)),
    workers.map((name, at) => row(short(name, width), name, TOP + (at + 0.5) * ROW, left, width)),
    arrows(shown).map(([from, to, time, until]) => line(x(time), y(from), x(until), y(to))),
    shown.map((step) => (step.kind === "ran" ? bars(step, x, y(step)) : mark(step, x(step.time), y(step)))),
  );
}

function short(name, width) {
  const most = Math.max(12, Math.floor(width / 24));
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

/** Say a step in one line. */
export function say(step) {
  const parts = [KINDS[step.kind] ?? step.kind];
  if (step.worker) parts.push(step.kind === "ran" ? `at ${step.worker}` : `by ${step.worker}`);
  if (step.kind === "sent" || step.kind === "resent") parts.push(`to ${step.address}`);
  if (step.attempt > 1) parts.push(`attempt ${step.attempt}`);
  if (step.wait !== null && step.wait !== undefined) parts.push(`waited ${duration(step.wait)}`);
  if (step.kind === "ran") parts.push(`for ${duration(step.seconds)}`);
  if (step.outcome) parts.push(step.outcome);
  if (step.error) parts.push(`${step.error}: ${step.message}`);
  return parts.join(", ");
}

function ticks(span) {
  const raw = span / 6;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= raw);
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
}

function tick(x, at, height) {
  return [
    svg("line", { class: "tick", x1: x, x2: x, y1: TOP - 6, y2: height }),
    svg("text", { class: "small", x, y: 16, "text-anchor": "middle" }, at ? `+${duration(at)}` : "0"),
  ];
}

function row(label, name, y, left, width) {
  return [
    svg("line", { class: "row", x1: left, x2: width, y1: y, y2: y }),
    svg("text", { x: 4, y: y + 4 }, label, svg("title", {}, name)),
  ];
}

/** Return [from step, to step, time, time]: each sending leads to the runs of its hop, the last run to the end. */
function arrows(steps) {
  const runs = steps.filter((step) => step.kind === "ran");
  const sent = steps.filter((step) => step.kind === "sent" || step.kind === "resent" || step.kind === "requeued");
  const found = runs.map((run) => {
    const before = (each) => each !== run && each.hop === run.hop && each.time <= began(run) + 0.001;
    const from = [...sent, ...runs].filter(before).toSorted((a, b) => a.time - b.time).at(-1); // or the attempt before
    return from && [from, run, from.time, began(run)];
  });
  const end = steps.find((step) => step.kind === "ended");
  const last = runs.at(-1);
  return [...found.filter(Boolean), ...(end && last && end.time >= last.time ? [[last, end, last.time, end.time]] : [])];
}

function line(x1, y1, x2, y2) {
  return svg("line", { class: "arrow", x1, y1, x2, y2, "marker-end": "url(#life-head)" });
}

function bars(step, x, y) {
  const from = x(began(step));
  const size = Math.max(LEAST, x(step.time) - from);
  const wait = from - x(queued(step));
  return [
    wait > LEAST ? titled("rect", step, { class: "wait", x: from - wait, y: y - 5, width: wait, height: 10 }) : null,
    titled("rect", step, { class: `run ${BARS[step.outcome] ?? "warn"}`, x: from, y: y - 10, width: size, height: 20, rx: 2 }),
    step.attempt > 1 ? svg("text", { class: "small", x: from + size, y: y - 13, "text-anchor": "end" }, `attempt ${step.attempt}`) : null,
  ];
}

function mark(step, x, y) {
  const color = step.kind === "ended" ? (step.outcome === "succeeded" ? "good" : "bad") : (MARKS[step.kind] ?? "");
  if (step.kind === "dead" || step.kind === "discarded") {
    return titled("path", step, { class: `mark ${color}`, d: `M${x} ${y - 9}l9 9l-9 9l-9 -9Z` });
  }
  return titled("circle", step, { class: `mark ${color}`, cx: x, cy: y, r: step.kind === "ended" ? 7 : 5 });
}

function titled(tag, step, properties) {
  const element = svg(tag, properties, svg("title", {}, say(step)));
  setAttribute(element, "data-kind", step.kind);
  return element;
}

function head() {
  const shape = svg("path", { d: "M0 0L7 3.5L0 7Z", fill: "context-stroke" });
  return svg("marker", { id: "life-head", viewBox: "0 0 7 7", refX: 6, refY: 3.5, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto" }, shape);
}
