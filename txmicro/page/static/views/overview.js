/** The overview: totals, and a table of all types with what matters about each. */

import { get } from "../api.js";
import { empty, h, setAttribute, setText, svg } from "../dom.js";
import { count, duration, rate } from "../format.js";
import { sparkPath } from "../history.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const WIDTH = 96;
const HEIGHT = 22;
const SEEDED = 50; // types whose series are asked for when the page is opened

const sum = (values) => values.reduce((total, value) => total + (value ?? 0), 0);
const queued = (type) => sum([type.queues?.interactive?.jobs, type.queues?.durable?.jobs]);
const oldest = (type) => Math.max(type.queues?.interactive?.oldest ?? 0, type.queues?.durable?.oldest ?? 0);
const dead = (type) => type.queues?.dead?.jobs ?? null;

/** Open the view. */
export function openOverview(body, _route, app) {
  const totals = new Totals();
  const table = new Table("Worker types", columns(app), { key: (row) => row.type, sorted: "Type", hideCaption: true });
  const none = empty("No worker has announced itself yet. Start one with: twistd txmicro-worker --type TYPE");
  none.hidden = true;
  body.append(totals.element, h("section", { class: "card", "aria-label": "Worker types" }, table.element, none));
  return {
    update(overview) {
      totals.update(overview);
      table.update(overview.types);
      none.hidden = overview.types.length > 0;
      seed(app, overview);
    },
  };
}

async function seed(app, overview) {
  if (app.seeded) return;
  app.seeded = true;
  for (const { type } of overview.types.slice(0, SEEDED)) {
    try {
      app.history.seed(type, await get(`types/${encodeURIComponent(type)}/series`, { seconds: 120 }));
    } catch {
      return; // the small graphs fill by themselves
    }
  }
}

class Totals {
  constructor() {
    const names = ["Workers", "Jobs/s", "Errors/s", "Running", "Waiting", "Dead letters", "Remembered jobs"];
    this.values = names.map(() => h("dd", {}, "–"));
    this.element = h("dl", { class: "totals" }, names.map((name, index) => h("div", {}, h("dt", {}, name), this.values[index])));
  }

  update({ types, workers, remembered_jobs: remembered }) {
    const errors = sum(types.map((type) => type.errors_per_second));
    const letters = sum(types.map(dead));
    const texts = [
      count(workers),
      rate(sum(types.map((type) => type.jobs_per_second))),
      rate(errors),
      `${count(sum(types.map((type) => type.running)))} of ${count(sum(types.map((type) => type.capacity)))}`,
      count(sum(types.map(queued))),
      count(letters),
      count(remembered),
    ];
    texts.forEach((text, index) => setText(this.values[index], text));
    setAttribute(this.values[2], "class", errors > 0 ? "bad" : null);
    setAttribute(this.values[5], "class", letters > 0 ? "bad" : null);
  }
}

function columns(app) {
  const number = (title, text, sort, more = {}) => ({ title, text, sort, number: true, ...more });
  return [
    { title: "Type", text: (row) => row.type, href: (row) => typeLink(row.type), sort: (row) => row.type },
    number("Workers", (row) => count(row.workers), (row) => row.workers, {
      tone: (row) => (row.suspect ? "warn" : ""),
      hint: (row) => (row.suspect ? `${row.suspect} of them did not answer their last probe` : null),
    }),
    { title: "Last 2 minutes", make: (row) => spark(app.history.of(row.type), row.type) },
    number("Jobs/s", (row) => rate(row.jobs_per_second), (row) => row.jobs_per_second),
    number("Errors/s", (row) => rate(row.errors_per_second), (row) => row.errors_per_second, {
      tone: (row) => (row.errors_per_second ? "bad" : ""),
    }),
    number("Wait p50", (row) => duration(row.wait?.p50), (row) => row.wait?.p50),
    number("p99", (row) => duration(row.wait?.p99), (row) => row.wait?.p99),
    number("Run p50", (row) => duration(row.run?.p50), (row) => row.run?.p50),
    number("p99", (row) => duration(row.run?.p99), (row) => row.run?.p99),
    number("Running", (row) => `${count(row.running)} of ${count(row.capacity)}`, (row) => row.running),
    number("Queued", (row) => count(queued(row)), queued),
    number("Oldest", (row) => (oldest(row) ? duration(oldest(row)) : "–"), oldest, {
      hint: () => "The oldest job in the queue is at most that old",
    }),
    number("Dead", (row) => count(dead(row)), dead, {
      href: (row) => (dead(row) ? link(["dead", row.type]) : null),
      tone: (row) => (dead(row) ? "bad" : ""),
    }),
  ];
}

/** Return a cell with the jobs and errors per second as a small graph. */
function spark(points, type) {
  const jobs = svg("path");
  const errors = svg("path", { class: "bad" });
  const box = { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Jobs per second of ${type}` };
  const update = () => {
    setAttribute(jobs, "d", sparkPath(points, 0, WIDTH, HEIGHT));
    setAttribute(errors, "d", points.some((point) => point[1] > 0) ? sparkPath(points, 1, WIDTH, HEIGHT) : null);
  };
  return { element: svg("svg", box, jobs, errors), update };
}
