/** Tables whose rows are updated in place: a cell is written only if its content changed. */

import { h, scrolling, setAttribute, setText } from "./dom.js";

/**
 * A table of rows with keys.
 *
 * A column is {title, text(row), href(row), tone(row), hint(row), number, wide, sort(row), make(row)}: all but the title
 * are optional. *make* returns {element, update(row)} for a cell that is more than text.
 */
export class Table {
  constructor(caption, columns, { key, sorted = null, descending = false, hideCaption = false }) {
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    this.shown = [];
    this.sorted = columns.findIndex((column) => column.title === sorted);
    this.descending = descending;
    this.body = h("tbody");
    this.heads = columns.map((column, index) => this.head(column, index));
    const title = h("caption", { class: hideCaption ? "sr" : null }, caption);
    this.element = scrolling(caption, h("table", {}, title, h("thead", {}, h("tr", {}, this.heads)), this.body));
    this.markSorted();
  }

  head(column, index) {
    const title = column.sort
      ? h("button", { type: "button", onclick: () => this.sortBy(index) }, column.title)
      : column.title;
    return h("th", { scope: "col", class: column.number ? "number" : null }, title);
  }

  sortBy(index) {
    this.descending = this.sorted === index ? !this.descending : Boolean(this.columns[index].number);
    this.sorted = index;
    this.markSorted();
    this.update(this.shown);
  }

  markSorted() {
    this.heads.forEach((head, index) => {
      setAttribute(head, "aria-sort", index !== this.sorted ? null : this.descending ? "descending" : "ascending");
    });
  }

  order(rows) {
    const sort = this.columns[this.sorted]?.sort;
    if (!sort) return rows;
    const sign = this.descending ? -1 : 1;
    const least = typeof rows.map(sort).find((value) => value !== null) === "number" ? -Infinity : "";
    return rows.toSorted((left, right) => {
      const [a, b] = [sort(left) ?? least, sort(right) ?? least];
      return a < b ? -sign : a > b ? sign : 0;
    });
  }

  /** Show exactly *rows*. */
  update(rows) {
    this.shown = rows;
    const keys = new Set(rows.map(this.key));
    for (const [key, line] of this.rows) {
      if (!keys.has(key)) {
        line.element.remove();
        this.rows.delete(key);
      }
    }
    let place = this.body.firstChild;
    for (const row of this.order(rows)) {
      const line = this.rows.get(this.key(row)) ?? this.add(this.key(row), row);
      line.update(row);
      if (line.element === place) place = place.nextSibling;
      else this.body.insertBefore(line.element, place);
    }
  }

  add(key, row) {
    const cells = this.columns.map((column) => cell(column, row));
    const line = {
      element: h("tr", {}, cells.map((each) => each.element)),
      update: (now) => cells.forEach((each) => each.update(now)),
    };
    this.rows.set(key, line);
    return line;
  }
}

function cell(column, row) {
  const element = h("td", { class: column.number ? "number" : column.wide ? "wide" : column.id ? "nowrap" : null });
  if (column.make) {
    const made = column.make(row);
    element.append(made.element);
    return { element, update: made.update ?? (() => {}) };
  }
  const inner = column.href ? h("a") : column.badge ? h("span") : element;
  if (inner !== element) element.append(inner);
  const base = column.badge ? "badge" : inner === element ? element.className : "";
  const update = (now) => {
    setText(inner, column.text(now));
    if (column.href) setAttribute(inner, "href", column.href(now));
    if (column.tone || column.badge) setAttribute(inner, "class", `${base} ${column.tone?.(now) ?? ""}`.trim());
    if (column.hint) setAttribute(inner, "title", column.hint(now));
  };
  return { element, update };
}
