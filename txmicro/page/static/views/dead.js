/** The dead letters of one type: search, select, requeue, discard. */

import { get } from "../api.js";
import { buttons } from "../bulk.js";
import { empty, h, setText } from "../dom.js";
import { choice, Filters, groupFields, text } from "../filters.js";
import { clock, count, exact, plural } from "../format.js";
import { Loader } from "../loading.js";
import { Pager } from "../pager.js";
import { link } from "../router.js";
import { Table } from "../table.js";

const LIMIT = 100;
const REASONS = ["attempts", "failed", "unreadable", "expired", "delivery_limit", "rejected", "maxlen"];

/** Open the view. */
export function openDead(body, route, app) {
  const type = route.path[1];
  const chosen = new Chosen();
  const pager = new Pager(() => loader.run());
  const reason = choice("reason", "Reason", [["", "Any reason"], ...REASONS.map((each) => [each, each.replace("_", " ")])]);
  const fields = [text("search", "Job or text"), text("error", "Error"), text("message", "Message"), reason, ...groupFields(route.query)];
  const filters = new Filters(fields, route.query, () => {
    pager.reset();
    chosen.clear();
    loader.run();
  });
  const columns = letterColumns(app.operator ? chosen : null);
  const table = new Table(`Dead letters of ${type}`, columns, { key: (row) => `${row.key} ${row.size}`, hideCaption: true });
  const none = empty("No dead letter matches. Clear the filters to see all.");
  const actions = new Actions(type, chosen, filters, () => loader.run());
  const card = h("section", { class: "card", "aria-label": "Dead letters" }, table.element, none, pager.element);
  body.append(filters.element, app.operator ? actions.element : "", card);
  const loader = new Loader(body, async (signal) => {
    const path = `dead/${encodeURIComponent(type)}`;
    const found = await get(path, { ...filters.values(), limit: LIMIT, after: pager.after }, signal);
    chosen.offer(found.letters.map((letter) => letter.key));
    table.update(found.letters);
    none.hidden = found.letters.length > 0;
    pager.update(found.next, plural(found.total, "dead letter"));
    actions.update(found.total);
  });
  return { close: () => loader.close() };
}

function letterColumns(chosen) {
  const columns = [
    chosen && { title: "Select", make: (row) => chosen.box(row) },
    { title: "Job", id: true, text: (row) => row.job, href: (row) => link(["jobs", row.job]) },
    { title: "Reason", text: (row) => row.reason.replace("_", " "), badge: true },
    { title: "Error", text: (row) => row.error || "–" },
    { title: "Message", text: (row) => row.message || "–", wide: true },
    { title: "Attempts", text: (row) => count(row.attempts), number: true },
    { title: "First sent", text: (row) => clock(row.stored), hint: (row) => exact(row.stored), number: true },
    { title: "Died", text: (row) => clock(row.died), hint: (row) => exact(row.died), number: true },
    { title: "Bytes", text: (row) => count(row.size), number: true },
  ];
  return columns.filter(Boolean);
}

/** The selected letters, of those that are shown. */
class Chosen {
  constructor() {
    this.keys = new Set();
    this.shown = [];
    this.boxes = new Map();
    this.changed = () => {};
  }

  box(row) {
    const toggle = () => {
      if (box.checked) this.keys.add(row.key);
      else this.keys.delete(row.key);
      this.changed();
    };
    const box = h("input", { type: "checkbox", "aria-label": `Select the dead letter of job ${row.job}`, onchange: toggle });
    this.boxes.set(row.key, box);
    return { element: box };
  }

  offer(keys) {
    this.shown = keys;
    for (const key of this.keys) if (!keys.includes(key)) this.keys.delete(key);
    this.changed();
  }

  all(select) {
    for (const key of this.shown) {
      if (select) this.keys.add(key);
      else this.keys.delete(key);
      this.boxes.get(key).checked = select;
    }
    this.changed();
  }

  clear() {
    this.all(false);
  }
}

/** The buttons above the list: for the selected letters if there are any, else for all that match. */
class Actions {
  constructor(type, chosen, filters, reload) {
    this.chosen = chosen;
    this.total = 0;
    this.label = h("span", { role: "status" });
    const which = () => (chosen.keys.size ? { keys: [...chosen.keys] } : { filter: filters.values() });
    const select = h("button", { type: "button", onclick: () => chosen.all(chosen.keys.size < chosen.shown.length) }, "Select page");
    this.buttons = buttons(type, which, reload);
    this.element = h("div", { class: "actions", role: "group", "aria-label": "Actions" }, select, this.buttons, this.label);
    chosen.changed = () => this.show();
  }

  update(total) {
    this.total = total;
    this.show();
  }

  show() {
    const selected = this.chosen.keys.size;
    setText(this.label, selected ? `for ${count(selected)} selected` : `for all ${count(this.total)} that match`);
    for (const button of this.buttons) button.disabled = !selected && !this.total;
  }
}
