/** Load what a view shows, again and again; show what is wrong, and what to do. */

import { h } from "./dom.js";

/**
 * Calls *load(signal)* at once and then every *seconds*; an answer that is late does not hold up the next view.
 *
 * Errors are shown in *place*, with a button. While the page is hidden, nothing is loaded.
 */
export class Loader {
  constructor(place, load, seconds = 0) {
    this.problem = h("div", { role: "alert" });
    place.prepend(this.problem);
    this.load = load;
    this.closed = false;
    this.run();
    if (seconds) this.timer = setInterval(() => document.hidden || this.loading || this.run(), seconds * 1000);
  }

  /** Load now. A load that has not ended is canceled. */
  async run() {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    this.loading = true;
    try {
      await this.load(abort.signal);
      this.problem.replaceChildren();
    } catch (error) {
      if (!abort.signal.aborted && !this.closed) this.fail(error);
    } finally {
      if (this.abort === abort) this.loading = false;
    }
  }

  fail(error) {
    if (error.status === undefined) console.error(error);
    const again = h("button", { type: "button", onclick: () => this.run() }, "Try again");
    this.problem.replaceChildren(h("div", { class: "problem" }, h("p", {}, error.message), again));
  }

  /** Load no more. */
  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.abort?.abort();
  }
}
