/**
 * The server-sent events of the manager, with reconnects.
 *
 * EventSource cannot send the token as a header, so the stream is read with fetch.
 */

import { request } from "./api.js";

const SILENCE = 10_000; // milliseconds without any event, of which there is one a second, before a new connection
const PAUSES = [500, 1000, 2000, 4000, 8000]; // milliseconds before each next attempt

/** Calls *event(name, data)* for each event, and *state(connected, milliseconds until the next attempt, error)*. */
export class Events {
  constructor({ event, state }) {
    this.event = event;
    this.state = state;
    this.failed = 0;
    this.running = false;
  }

  /** Connect, and again whenever the connection ends. Do nothing if that is going on. */
  start() {
    if (this.running) return;
    this.running = true;
    this.failed = 0;
    this.loop();
  }

  /** Close the connection, and make no other. */
  stop() {
    this.running = false;
    this.abort?.abort();
    this.wake?.();
  }

  /** Make the next attempt at once. */
  retry() {
    this.wake?.();
  }

  async loop() {
    while (this.running) {
      let error = null;
      try {
        await this.connection();
      } catch (caught) {
        error = caught;
      }
      clearTimeout(this.watchdog);
      if (!this.running) return;
      const pause = PAUSES[Math.min(this.failed++, PAUSES.length - 1)];
      this.state(false, pause, error);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, pause);
      });
    }
  }

  async connection() {
    this.abort = new AbortController();
    this.watch();
    const response = await request("events", { headers: { Accept: "text/event-stream" }, signal: this.abort.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      this.watch();
      text += value.replaceAll("\r", "");
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) this.dispatch(block);
    }
  }

  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.abort.abort(), SILENCE);
  }

  dispatch(block) {
    let name = "message";
    const data = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
    }
    if (!data.length) return;
    this.failed = 0;
    this.state(true, 0, null);
    this.event(name, JSON.parse(data.join("\n")));
  }
}
