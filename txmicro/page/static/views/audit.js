/** Who has done what on this page. */

import { get } from "../api.js";
import { empty, h } from "../dom.js";
import { clock, exact } from "../format.js";
import { Loader } from "../loading.js";
import { Table } from "../table.js";

const SHOWN = 200;

const COLUMNS = [
  { title: "Time", text: (row) => clock(row.time), hint: (row) => exact(row.time), number: true },
  { title: "Name", text: (row) => row.name || "–" },
  { title: "Role", text: (row) => row.role },
  { title: "From", text: (row) => row.address },
  { title: "Action", text: (row) => row.action },
  { title: "Detail", text: (row) => (typeof row.detail === "string" ? row.detail : JSON.stringify(row.detail)), wide: true },
  { title: "Outcome", text: (row) => row.outcome },
];

/** Open the view. */
export function openAudit(body) {
  const table = new Table("Audit", COLUMNS, { key: (row) => row.number, hideCaption: true });
  const none = empty("No one has changed anything on this page since the manager started.");
  body.append(h("section", { class: "card", "aria-label": "Audit" }, table.element, none));
  const loader = new Loader(body, async (signal) => {
    const { lines } = await get("audit", { limit: SHOWN }, signal);
    const latest = lines.toSorted((left, right) => right.time - left.time);
    table.update(latest.map((line, at) => ({ ...line, number: latest.length - at })));
    none.hidden = lines.length > 0;
  }, 5);
  return { close: () => loader.close() };
}
