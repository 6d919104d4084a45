/** The parts of the page around the view: navigation, state of the connection, colors, who is logged in. */

import { hasToken, setToken } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { clock } from "./format.js";
import { help } from "./keys.js";

const THEMES = { system: "light", light: "dark", dark: "system" };
const NAMES = { system: "Colors: system", light: "Colors: light", dark: "Colors: dark" };

const at = (id) => document.getElementById(id);

/** Fill the navigation with the views that the role may see. */
export function showNavigation(views) {
  at("nav").replaceChildren(...views.map((view) => h("a", { href: view.hash }, view.title)));
}

/** Mark the link of the open view. */
export function markCurrent(hash) {
  for (const each of at("nav").children) setAttribute(each, "aria-current", each.getAttribute("href") === hash ? "page" : null);
  closeMenu();
}

/** Show who is logged in. */
export function showSession(session) {
  const leave = () => {
    setToken("");
    location.reload();
  };
  const out = hasToken() ? h("button", { class: "plain", type: "button", onclick: leave }, "Log out") : "";
  const name = session.name ? `${session.name}, ${session.role}` : session.role;
  at("who").replaceChildren(h("span", { title: `${session.manager}, txmicro ${session.version}` }, name), out);
}

/** Make the buttons of the header work. */
export function startShell(views) {
  setText(at("theme"), NAMES[globalThis.txmicroTheme.get()]);
  at("theme").addEventListener("click", nextTheme);
  at("help").addEventListener("click", () => help(views));
  at("menu").addEventListener("click", () => setMenu(at("menu").getAttribute("aria-expanded") !== "true"));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is the route
    at("main").focus();
  });
}

/** Switch to the next colors. */
export function nextTheme() {
  globalThis.txmicroTheme.set(THEMES[globalThis.txmicroTheme.get()]);
  setText(at("theme"), NAMES[globalThis.txmicroTheme.get()]);
}

function setMenu(open) {
  at("menu").setAttribute("aria-expanded", String(open));
  document.querySelector("header").classList.toggle("open", open);
}

function closeMenu() {
  setMenu(false);
}

/** Show that there is no connection to the manager since *heard* (Unix time; 0: never), and when the next attempt is. */
export function showDisconnected(heard, pause, retry, error) {
  document.documentElement.classList.add("stale");
  const since = heard ? `The numbers are from ${clock(heard)}.` : "There are no numbers yet.";
  const reason = error?.status >= 400 ? ` ${error.message}` : "";
  at("connection").replaceChildren(
    h("span", {}, `Not connected to the manager. ${since}${reason} Next attempt in ${Math.ceil(pause / 1000)} s.`),
    h("button", { type: "button", onclick: retry }, "Try now"),
  );
  at("connection").hidden = false;
}

/** Hide what :func:`showDisconnected` shows. */
export function showConnected() {
  if (at("connection").hidden) return;
  document.documentElement.classList.remove("stale");
  at("connection").hidden = true;
}

/** Show why the manager cannot use the broker; nothing if it can. */
export function showBus(bus) {
  at("bus").hidden = Boolean(bus.connected && !bus.obstacle);
  const reason = bus.obstacle ? `: ${bus.obstacle}` : "";
  setText(at("bus"), `The manager cannot use the broker${reason}. Workers and jobs are not seen until it can.`);
}
