/** The latest warnings and errors of all workers, live. */

import { get } from "../api.js";
import { empty, h, setAttribute } from "../dom.js";
import { choice, Filters, text } from "../filters.js";
import { clock, exact, tone } from "../format.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { Table } from "../table.js";

const SHOWN = 200;
const LEVELS = [["", "All levels"], ["warn", "Warnings"], ["error", "Errors"], ["critical", "Critical"]];

const COLUMNS = [
  { title: "Time", text: (row) => clock(row.time), hint: (row) => exact(row.time), number: true },
  { title: "Level", text: (row) => row.level, badge: true, tone: (row) => tone(row.level) },
  { title: "Worker", text: (row) => row.worker || row.service || "–" },
  { title: "Message", text: (row) => row.message, wide: true },
  { title: "Job", id: true, text: (row) => row.job || "–", href: (row) => (row.job ? link(["jobs", row.job]) : null) },
];

/** Open the view. */
export function openErrors(body, route) {
  const lines = new Lines();
  const table = new Table("Warnings and errors", COLUMNS, { key: (row) => row.number, hideCaption: true });
  const none = empty("No warning and no error, since the manager started.");
  const filters = new Filters([choice("level", "Level", LEVELS), text("search", "Worker, job or text")], route.query, () => show());
  const pause = pauseButton(() => show());
  filters.element.append(pause);
  const show = () => {
    if (pause.getAttribute("aria-pressed") === "true") return;
    const found = lines.matching(filters.values());
    table.update(found);
    none.hidden = found.length > 0;
  };
  body.append(filters.element, h("section", { class: "card", "aria-label": "Warnings and errors" }, table.element, none));
  const loader = new Loader(body, async (signal) => {
    lines.reset((await get("errors", { limit: SHOWN }, signal)).lines);
    show();
  });
  return {
    line(line) {
      lines.add(line);
      show();
    },
    close: () => loader.close(),
  };
}

function pauseButton(changed) {
  const toggle = () => {
    setAttribute(button, "aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    changed();
  };
  const button = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, "Pause");
  return button;
}

/** The lines, the latest first. */
class Lines {
  constructor() {
    this.lines = [];
    this.numbers = 0;
  }

  reset(lines) {
    this.lines = lines.toSorted((left, right) => right.time - left.time).map((line) => this.numbered(line));
  }

  add(line) {
    this.lines.unshift(this.numbered(line));
    this.lines.length = Math.min(this.lines.length, SHOWN);
  }

  numbered(line) {
    return { ...line, number: this.numbers++ };
  }

  matching({ level, search }) {
    const wanted = search.toLowerCase();
    const text = (line) => `${line.worker} ${line.service} ${line.job} ${line.message}`.toLowerCase();
    return this.lines.filter((line) => (!level || line.level === level) && text(line).includes(wanted));
  }
}
