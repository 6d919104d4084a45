/** One job: its life across hops as a picture, its steps, and its log lines. */

import { get } from "../api.js";
import { empty, h, scrolling } from "../dom.js";
import { clock, count, duration, exact, tone } from "../format.js";
import { began, lifePicture } from "../life.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const NARROWEST = 560; // pixels of the picture; a narrower screen scrolls it
const OPEN_SECONDS = 2; // between loads, as long as the job has not ended

const LEGEND = ["● sent", "▬ waited, then ran", "◆ became a dead letter", "⬤ ended for its sender"];

const offset = (row) => duration(Math.max(0, row.since));

const STEPS = [
  { title: "After", text: offset, hint: (row) => exact(row.time), number: true },
  { title: "Step", text: (row) => row.kind, badge: true, tone: (row) => tone(row.kind) },
  { title: "Worker", text: (row) => row.worker || "–" },
  { title: "Address", text: (row) => row.address || "–" },
  { title: "Hop", text: (row) => count(row.hop), number: true },
  { title: "Attempt", text: (row) => (row.attempt ? count(row.attempt) : "–"), number: true },
  { title: "Wait", text: (row) => duration(row.wait), number: true },
  { title: "Took", text: (row) => duration(row.seconds), number: true },
  { title: "Outcome", text: (row) => row.outcome || "–", badge: true, tone: (row) => tone(row.outcome) },
  { title: "Error", text: (row) => [row.error && `${row.error}: ${row.message}`, row.text].filter(Boolean).join("; ") || "–", wide: true },
];

const LOG = [
  { title: "After", text: offset, hint: (row) => exact(row.time), number: true },
  { title: "Level", text: (row) => row.outcome || "–", badge: true, tone: (row) => tone(row.outcome) },
  { title: "Worker", text: (row) => row.worker || "–" },
  { title: "Line", text: (row) => row.text || row.message, wide: true },
];

/** Open the view. */
export function openJob(body, route) {
  const place = h("div");
  body.append(place);
  let shown = "";
  let life = null;
  const draw = () => life?.draw();
  const resizing = new ResizeObserver(draw);
  resizing.observe(place);
  const loader = new Loader(body, async (signal) => {
    const job = await find(route.path[1], signal);
    if (JSON.stringify(job) === shown) return;
    shown = JSON.stringify(job);
    life = job && new Life(job);
    place.replaceChildren(...(life ? life.elements : [empty("The manager does not remember this job. It keeps the latest jobs, and failures longest.")]));
    life?.draw();
    if (job?.ended) clearInterval(loader.timer); // it will hardly change
  }, OPEN_SECONDS);
  return {
    close() {
      resizing.disconnect();
      loader.close();
    },
  };
}

async function find(id, signal) {
  try {
    return await get(`jobs/${encodeURIComponent(id)}`, {}, signal);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

class Life {
  constructor(job) {
    const first = Math.min(job.sent ?? Infinity, ...job.steps.map(began));
    const steps = job.steps.map((step, number) => ({ ...step, number, since: began(step) - first }));
    this.steps = steps;
    this.picture = scrolling("Picture of the job's life");
    this.picture.classList.add("picture");
    const lines = steps.filter((step) => step.kind === "log");
    const legend = h("ul", { class: "legend" }, LEGEND.map((text) => h("li", {}, text)));
    this.elements = [
      h("section", { class: "card", "aria-label": "Facts" }, facts(job)),
      h("section", { class: "card", "aria-label": "Life" }, this.picture, legend),
      part("Steps", STEPS, steps.filter((step) => step.kind !== "log")),
      lines.length ? part("Log lines", LOG, lines) : h("section", { class: "card" }, h("h2", {}, "Log lines"), empty("The manager has got no warning or error about this job. Of many alike lines, workers send only the first ones and the last one.")),
    ];
  }

  draw() {
    if (!this.steps.some((step) => step.kind !== "log")) return;
    const width = Math.max(NARROWEST, this.picture.clientWidth);
    if (width === this.width) return;
    this.width = width;
    this.picture.replaceChildren(lifePicture(this.steps, width));
  }
}

function part(title, columns, rows) {
  const table = new Table(title, columns, { key: (row) => row.number });
  table.update(rows);
  return h("section", { class: "card", "aria-label": title }, table.element);
}

function facts(job) {
  const outcome = h("span", { class: `badge ${tone(job.outcome)}` }, job.outcome || "pending");
  const letters = h("a", { href: link(["dead", job.type], { search: job.id }) }, "look among the dead letters");
  const rows = [
    ["Outcome", [outcome, job.outcome === "dead" ? [" ", letters] : null]],
    job.error && ["Error", `${job.error}: ${job.message}`],
    ["Address", job.address],
    ["Type", job.type ? h("a", { href: typeLink(job.type) }, job.type) : "–"],
    ["Lane", job.lane || "–"],
    ["Sender", job.sender || "–"],
    ["Last worker", job.worker || "–"],
    ["Sent", clock(job.sent)],
    ["Took", job.ended ? duration(job.seconds) : "–"],
    job.trace && ["Trace", h("code", {}, job.trace)],
  ].filter(Boolean);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, ...[value].flat(3))]));
}
