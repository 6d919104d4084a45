/** The keyboard shortcuts. */

import { tell } from "./dialogs.js";
import { h } from "./dom.js";

const PAUSE = 1500; // milliseconds in which the second key of a shortcut has to follow

const OTHERS = [
  ["?", "List the keys"],
  ["/", "Go to the first filter"],
  ["j", "Go to the next row"],
  ["k", "Go to the row before"],
  ["x", "Select or clear the row, in a list with boxes"],
  ["t", "Change the colors: as the system, light, dark"],
  ["Esc", "Leave a filter, close a dialog"],
];

/** Listen for the shortcuts. *views* are {key, title, hash}; *theme* changes the colors. */
export function listen(views, theme) {
  let prefix = 0;
  const actions = { "?": () => help(views), "/": focusFilter, j: () => move(1), k: () => move(-1), x: select, t: theme };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const view = Date.now() - prefix < PAUSE && views.find((each) => each.key === event.key);
    prefix = event.key === "g" ? Date.now() : 0;
    if (view) location.hash = view.hash;
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  });
}

/** Show the list of shortcuts. */
export function help(views) {
  const rows = [...views.map((view) => [`g ${view.key}`, view.title]), ...OTHERS];
  const lines = rows.map(([keys, what]) =>
    h("tr", {}, h("td", { class: "nowrap" }, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("td", {}, what)));
  return tell("Keys", h("table", {}, h("tbody", {}, lines)));
}

function focusFilter() {
  document.querySelector(".filters input, .filters select")?.focus();
}

function move(step) {
  const rows = [...document.querySelectorAll("main tbody tr")];
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  next?.querySelector("input, a, button")?.focus();
}

function select() {
  document.activeElement.closest?.("tr")?.querySelector("input[type=checkbox]")?.click();
}
