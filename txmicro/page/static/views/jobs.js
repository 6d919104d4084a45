/** The jobs that the manager remembers. */

import { get } from "../api.js";
import { empty, h } from "../dom.js";
import { choice, Filters, groupFields, text, typeChoice } from "../filters.js";
import { clock, count, duration, exact, tone } from "../format.js";
import { Loader } from "../loading.js";
import { Pager } from "../pager.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const LIMIT = 50;
const OUTCOMES = ["pending", "succeeded", "failed", "dead", "retried", "canceled", "returned", "forwarded"];
const SINCE = [["", "Any time"], ["60", "Last minute"], ["600", "Last 10 minutes"], ["3600", "Last hour"], ["86400", "Last day"]];

const COLUMNS = [
  { title: "Job", id: true, text: (row) => row.id, href: (row) => link(["jobs", row.id]) },
  { title: "Type", text: (row) => row.type || "–", href: (row) => (row.type ? typeLink(row.type) : null) },
  { title: "Outcome", text: (row) => row.outcome || "pending", badge: true, tone: (row) => tone(row.outcome) },
  { title: "Lane", text: (row) => row.lane || "–" },
  { title: "Sent", text: (row) => clock(row.sent), hint: (row) => exact(row.sent), number: true },
  { title: "Took", text: (row) => duration(row.seconds), number: true },
  { title: "Hops", text: (row) => count(row.hops), number: true },
  { title: "Error", text: (row) => row.error || "–" },
  { title: "Message", text: (row) => row.message || "–", wide: true },
];

/** Open the view. */
export function openJobs(body, route, app) {
  const table = new Table("Jobs", COLUMNS, { key: (row) => row.id, hideCaption: true });
  const none = empty("The manager remembers no job that matches. Clear the filters, or wait for jobs.");
  const pager = new Pager(() => loader.run());
  const fields = [
    typeChoice(route.query),
    choice("outcome", "Outcome", [["", "Any outcome"], ...OUTCOMES.map((each) => [each, each])]),
    choice("since", "Sent", SINCE),
    text("error", "Error"),
    text("search", "Id, address or message"),
  ];
  const filters = new Filters([...fields, ...groupFields(route.query)], route.query, () => {
    pager.reset();
    loader.run();
  });
  const again = h("button", { type: "button", onclick: () => loader.run() }, "Load again");
  filters.element.append(again);
  const card = h("section", { class: "card", "aria-label": "Jobs" }, table.element, none, pager.element);
  body.append(filters.element, card);
  const loader = new Loader(body, async (signal) => {
    const { since, ...values } = filters.values();
    const from = since && Math.floor(app.now - Number(since));
    const query = { ...values, since: from, limit: LIMIT, after: pager.after };
    const found = await get("jobs", query, signal);
    table.update(found.jobs);
    none.hidden = found.jobs.length > 0;
    pager.update(found.next);
  });
  return {
    update: (overview) => filters.offerTypes(overview.types.map((each) => each.type)),
    close: () => loader.close(),
  };
}
