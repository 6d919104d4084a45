/** Opens the views by their routes, and passes the manager's events on to the open one. */

import { get, onUnauthorized } from "./api.js";
import { note } from "./dialogs.js";
import { h } from "./dom.js";
import { Events } from "./events.js";
import * as keys from "./keys.js";
import { showLogin } from "./login.js";
import { current } from "./router.js";
import * as shell from "./shell.js";
import { History } from "./history.js";
import { VIEWS } from "./views/index.js";

const root = document.getElementById("main");

/** What the views know: see the fields. */
class App {
  session = { name: "", role: "reader" };
  overview = null;
  history = new History();
  view = null;
  loggingIn = false;

  /** Whether actions are shown. The API refuses them to others in any case. */
  get operator() {
    return this.session.role === "operator";
  }

  /** The manager's time, in Unix seconds: the reader's clock may be wrong. */
  get now() {
    return Date.now() / 1000 + (this.ahead ?? 0);
  }

  async start() {
    onUnauthorized(() => this.login());
    this.events = new Events({
      event: (name, data) => this.event(name, data),
      state: (connected, pause, error) => this.connection(connected, pause, error),
    });
    shell.startShell(VIEWS.filter((view) => view.key));
    keys.listen(VIEWS.filter((view) => view.key), shell.nextTheme);
    addEventListener("hashchange", () => this.open({ focus: true }));
    await this.enter();
  }

  async enter() {
    this.loggingIn = false;
    try {
      this.session = await get("session");
    } catch (error) {
      if (error.status === 401) return;
      if (error.status) return this.refused(error);
      setTimeout(() => this.enter(), 2000);
      return shell.showDisconnected(0, 2000, () => this.enter(), error);
    }
    this.ahead = this.session.time - Date.now() / 1000;
    shell.showSession(this.session);
    shell.showNavigation(VIEWS.filter((view) => view.key && (this.operator || !view.operator)));
    this.events.start();
    this.open();
  }

  refused(error) {
    root.replaceChildren(h("h1", {}, "The manager does not serve this page"), h("p", {}, error.message));
  }

  login() {
    if (this.loggingIn) return;
    this.loggingIn = true;
    this.events.stop();
    this.close();
    showLogin(root, () => this.enter());
  }

  close() {
    this.view?.close?.();
    this.view = null;
  }

  open({ focus = false } = {}) {
    if (this.loggingIn) return;
    this.close();
    const route = current();
    const found = VIEWS.find((view) => view.matches(route.path)) ?? VIEWS[0];
    const heading = h("h1", { tabindex: "-1" }, found.heading?.(route.path) ?? found.title);
    const head = h("div", { class: "head" }, heading);
    const body = h("div", {});
    root.replaceChildren(head, body);
    document.title = `${heading.textContent} · txmicro`;
    shell.markCurrent(found.hash);
    scrollTo(0, 0);
    if (found.operator && !this.operator) {
      body.append(h("p", { class: "empty" }, "This view is for operators. Log in with an operator's token."));
    } else {
      this.view = found.open(body, route, this, head);
      if (this.overview) this.view.update?.(this.overview);
    }
    if (focus) heading.focus({ preventScroll: true }); // at the start, the first Tab leads to the skip link
  }

  event(name, data) {
    if (name === "update") {
      this.overview = data;
      this.ahead = data.time - Date.now() / 1000;
      this.history.add(data);
      shell.showBus(data.bus);
      this.view?.update?.(data);
    } else {
      this.view?.[name]?.(data);
    }
  }

  connection(connected, pause, error) {
    if (connected) return shell.showConnected();
    if (error?.status !== 401) shell.showDisconnected(this.overview?.time, pause, () => this.events.retry(), error);
  }
}

addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "ApiError" || event.reason?.status !== undefined) {
    event.preventDefault();
    note(event.reason.message, "bad");
  }
});

new App().start();
