/** The worker types that have dead letters. */

import { get } from "../api.js";
import { empty, h } from "../dom.js";
import { count } from "../format.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { Table } from "../table.js";

/** Open the view. */
export function openDeadTypes(body) {
  const columns = [
    { title: "Type", text: (row) => row.type, href: (row) => link(["dead", row.type]), sort: (row) => row.type },
    { title: "Dead letters", text: (row) => count(row.jobs), number: true, sort: (row) => row.jobs, tone: (row) => (row.jobs ? "bad" : "") },
  ];
  const table = new Table("Dead letters by type", columns, { key: (row) => row.type, sorted: "Dead letters", descending: true, hideCaption: true });
  const none = empty("No worker type has dead letters. A durable job becomes one when all its attempts have failed.");
  body.append(h("section", { class: "card", "aria-label": "Dead letters by type" }, table.element, none));
  const loader = new Loader(body, async (signal) => {
    const types = (await get("dead", {}, signal)).types;
    table.update(types);
    none.hidden = types.length > 0;
  }, 5);
  return { close: () => loader.close() };
}
