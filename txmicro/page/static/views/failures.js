/** Failures in groups: those of one type, error and message are one. */

import { get } from "../api.js";
import { empty, h } from "../dom.js";
import { Filters, choice, text, typeChoice } from "../filters.js";
import { age, clock, count, exact } from "../format.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const SINCE = [["", "Any time"], ["300", "Last 5 minutes"], ["3600", "Last hour"], ["86400", "Last day"]];

/** Return the columns of a table of groups. */
export function groupColumns(app, { type = true } = {}) {
  const columns = [
    { title: "Error", text: (row) => row.error, href: (row) => link(["failures", row.id]), sort: (row) => row.error },
    { title: "Message", text: (row) => row.message, wide: true },
    type && { title: "Type", text: (row) => row.type, href: (row) => typeLink(row.type), sort: (row) => row.type },
    { title: "Count", text: (row) => count(row.count), number: true, sort: (row) => row.count },
    { title: "Dead letters", text: (row) => count(row.dead), number: true, sort: (row) => row.dead, tone: (row) => (row.dead ? "bad" : "") },
    { title: "First", text: (row) => clock(row.first), hint: (row) => exact(row.first), number: true, sort: (row) => row.first },
    { title: "Last", text: (row) => age(row.last, app.now), hint: (row) => exact(row.last), number: true, sort: (row) => row.last },
  ];
  return columns.filter(Boolean);
}

/** Open the view. */
export function openFailures(body, route, app) {
  const table = new Table("Groups of failures", groupColumns(app), {
    key: (row) => row.id, sorted: "Last", descending: true, hideCaption: true,
  });
  const none = empty("No failure matches, as far as the manager remembers.");
  none.hidden = true; // until the first answer
  const fields = [typeChoice(route.query), choice("since", "Last seen", SINCE), text("search", "Error or message")];
  const filters = new Filters(fields, route.query, () => loader.run());
  const card = h("section", { class: "card", "aria-label": "Groups of failures" }, table.element, none);
  body.append(filters.element, card);
  const loader = new Loader(body, async (signal) => {
    const { since, ...values } = filters.values();
    const { groups } = await get("failures", { ...values, since: since && Math.floor(app.now - Number(since)) }, signal);
    table.update(groups);
    none.hidden = groups.length > 0;
  }, 5);
  return {
    update: (overview) => filters.offerTypes(overview.types.map((each) => each.type)),
    failures: () => loader.loading || loader.run(),
    close: () => loader.close(),
  };
}
