/** One type: its live graphs, its workers, its failures. */

import { get } from "../api.js";
import { empty, h, setText } from "../dom.js";
import { count, duration, plural, rate } from "../format.js";
import { Graph } from "../graph.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { Series } from "../series.js";
import { Table } from "../table.js";
import { groupColumns } from "./failures.js";
import { workerColumns } from "./workers.js";

const LINES = ["jobs", "errors", "wait_p50", "wait_p99", "run_p50", "run_p99", "depth", "oldest"];
const SECONDS = 600;
const RECENT = 15; // seconds that are asked for at each update: more than a late answer misses
const WORKERS = 50;

const GRAPHS = [
  ["Jobs and errors per second", [["jobs", "jobs/s", rate, "rate"], ["errors", "errors/s", rate, "rate"]]],
  ["Wait: from sending to the start", [["wait_p50", "p50", duration, "s"], ["wait_p99", "p99", duration, "s"]]],
  ["Run: the handler", [["run_p50", "p50", duration, "s"], ["run_p99", "p99", duration, "s"]]],
  ["Queues", [["depth", "jobs in queues", count, "jobs"], ["oldest", "oldest, at most", duration, "s"]]],
];

/** Open the view. */
export function openType(body, route, app, head) {
  const type = route.path[1];
  const summary = h("p");
  head.append(summary);
  const graphs = new Graphs(body, type);
  const parts = [workersOf(body, type, app), failuresOf(body, type, app)];
  return {
    update(overview) {
      const row = overview.types.find((each) => each.type === type);
      setText(summary, row ? describe(row) : "No worker of this type is on the bus.");
      if (row) graphs.update();
    },
    close: () => [graphs, ...parts].forEach((part) => part.close()),
  };
}

function describe(row) {
  const dead = row.queues?.dead?.jobs ?? 0;
  const letters = dead ? `, ${plural(dead, "dead letter")}` : "";
  return `${plural(row.workers, "worker")}, ${count(row.running)} of ${count(row.capacity)} running, ${count(row.held)} held, ${count(row.pending)} pending${letters}`;
}

class Graphs {
  constructor(body, type) {
    this.path = `types/${encodeURIComponent(type)}/series`;
    this.series = new Series(LINES, SECONDS);
    this.graphs = GRAPHS.map(([title, lines]) => ({
      names: lines.map(([name]) => name),
      graph: new Graph(title, lines.map(([, label, format, scale]) => ({ label, format, scale }))),
    }));
    const element = h("div", { class: "grid" }, this.graphs.map(({ graph }) => graph.element));
    body.append(element);
    this.loader = new Loader(body, async (signal) => {
      const seconds = this.series.times.length ? RECENT : SECONDS;
      this.series.merge(await get(this.path, { seconds }, signal));
      for (const { names, graph } of this.graphs) graph.update(this.series.data(names));
    });
  }

  update() {
    if (!this.loader.loading && !document.hidden) this.loader.run();
  }

  close() {
    this.loader.close();
    for (const { graph } of this.graphs) graph.close();
  }
}

function workersOf(body, type, app) {
  const table = new Table("Workers", workerColumns(app, { type: false }), { key: (row) => row.id });
  const more = h("p", {});
  const card = h("section", { class: "card", "aria-label": "Workers of this type" }, table.element, more);
  body.append(card);
  return new Loader(card, async (signal) => {
    const { workers, total } = await get("workers", { type, limit: WORKERS }, signal);
    table.update(workers);
    more.replaceChildren(total > workers.length ? h("a", { href: link(["workers"], { type }) }, `All ${count(total)} workers`) : "");
  }, 5);
}

function failuresOf(body, type, app) {
  const table = new Table("Failures", groupColumns(app, { type: false }), { key: (row) => row.id });
  const none = empty("No job of this type has failed, as far as the manager remembers.");
  const card = h("section", { class: "card", "aria-label": "Failures of this type" }, table.element, none);
  body.append(card);
  return new Loader(card, async (signal) => {
    const { groups } = await get("failures", { type }, signal);
    table.update(groups);
    none.hidden = groups.length > 0;
  }, 5);
}
