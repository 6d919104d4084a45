/** Buttons for the pages of a list that the API gives with "next". */

import { h, setText } from "./dom.js";

/** Keeps the cursors of the pages before; calls *changed()* when another page is wanted. */
export class Pager {
  constructor(changed) {
    this.changed = changed;
    this.cursors = [""];
    this.label = h("span", { role: "status" });
    this.back = h("button", { type: "button", onclick: () => this.go(-1) }, "Previous page");
    this.forward = h("button", { type: "button", onclick: () => this.go(1) }, "Next page");
    this.element = h("div", { class: "pager", hidden: true }, this.back, this.forward, this.label);
  }

  /** The cursor of the wanted page; empty: the first. */
  get after() {
    return this.cursors.at(-1);
  }

  /** Go to the first page. */
  reset() {
    this.cursors = [""];
  }

  go(step) {
    if (step > 0) this.cursors.push(this.next);
    else this.cursors.pop();
    this.changed();
  }

  /** Show that a page with *next* (null: it is the last) was loaded. */
  update(next, text = "") {
    this.next = next;
    this.back.disabled = this.cursors.length === 1;
    this.forward.disabled = next === null;
    this.element.hidden = this.back.disabled && this.forward.disabled && !text;
    setText(this.label, [`Page ${this.cursors.length}`, text].filter(Boolean).join(" · "));
  }
}
