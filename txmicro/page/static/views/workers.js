/** All workers, by type and state, in pages. */

import { get } from "../api.js";
import { empty, h } from "../dom.js";
import { age, count, duration, plural, rate, tone } from "../format.js";
import { choice, Filters, text, typeChoice } from "../filters.js";
import { Loader } from "../loading.js";
import { Pager } from "../pager.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const LIMIT = 100;
const SECONDS = 3;
const STATES = [["", "All states"], ["alive", "Alive"], ["suspect", "Suspect"]];

/** Return the columns of a table of workers. */
export function workerColumns(app, { type = true } = {}) {
  const columns = [
    { title: "Id", id: true, text: (row) => row.id, hint: (row) => (row.metrics ? `metrics: ${row.metrics}` : null) },
    type && { title: "Type", text: (row) => row.type, href: (row) => typeLink(row.type) },
    { title: "State", text: (row) => row.state, badge: true, tone: (row) => tone(row.state) },
    { title: "Host", text: (row) => row.host || "–" },
    { title: "Process", text: (row) => String(row.pid ?? "–"), number: true },
    { title: "Version", text: (row) => row.version || "–" },
    { title: "Up for", text: (row) => duration(row.uptime), number: true },
    { title: "Heard", text: (row) => age(row.heard, app.now), number: true },
    { title: "Load", text: load, number: true, tone: (row) => (row.capacity && row.running >= row.capacity ? "warn" : "") },
    { title: "Held", text: (row) => count(row.held), number: true },
    { title: "Pending", text: (row) => count(row.pending), number: true },
    { title: "Jobs/s", text: (row) => rate(row.jobs_per_second), number: true },
  ];
  return columns.filter(Boolean);
}

function load(row) {
  return row.capacity ? `${count(row.running)} of ${count(row.capacity)}` : count(row.running);
}

/** Open the view. */
export function openWorkers(body, route, app) {
  const table = new Table("Workers", workerColumns(app), { key: (row) => row.id, hideCaption: true });
  const none = empty("No worker matches. Clear the filters to see all.");
  const pager = new Pager(() => loader.run());
  const filters = new Filters(
    [typeChoice(route.query), choice("state", "State", STATES), text("search", "Id, host or version")],
    route.query,
    () => {
      pager.reset();
      loader.run();
    },
  );
  const card = h("section", { class: "card", "aria-label": "Workers" }, table.element, none, pager.element);
  body.append(filters.element, card);
  const loader = new Loader(body, async (signal) => {
    const found = await get("workers", { ...filters.values(), limit: LIMIT, after: pager.after }, signal);
    table.update(found.workers);
    none.hidden = found.workers.length > 0;
    pager.update(found.next, plural(found.total, "worker"));
  }, SECONDS);
  return {
    update: (overview) => filters.offerTypes(overview.types.map((each) => each.type)),
    close: () => loader.close(),
  };
}
