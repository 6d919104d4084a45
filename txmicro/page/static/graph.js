/** Live graphs by uPlot, which is loaded as a script of its own. */

import { h, setText } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 190;
const LEAST = { jobs: 5, rate: 1, s: 0.001 }; // the least top of an axis, by scale
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7];
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A graph with a title, and the latest or the pointed-at value of each line.
 *
 * A line is {label, format(value), scale}: lines of different scales have axes of their own, left and right.
 */
export class Graph {
  constructor(title, lines) {
    this.lines = lines;
    this.data = [[], ...lines.map(() => [])];
    this.values = lines.map(() => h("b", {}, "–"));
    const keys = lines.map((line, index) => h("span", { class: `key key-${index + 1}` }, `${line.label} `, this.values[index]));
    this.plot = h("div", { class: "plot", "aria-hidden": "true" });
    this.element = h("figure", { class: "card graph" }, h("figcaption", {}, h("strong", {}, title), keys), this.plot);
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(this.plot);
    this.recolor = () => this.draw();
    document.addEventListener("theme", this.recolor);
  }

  /** Show *data*: the times and then the values of each line. */
  update(data) {
    this.data = data;
    if (this.uplot) this.uplot.setData(data);
    this.showValues(null);
  }

  /** Release what listens. */
  close() {
    this.resizing.disconnect();
    document.removeEventListener("theme", this.recolor);
    this.uplot?.destroy();
  }

  showValues(index) {
    this.lines.forEach((line, at) => {
      const values = this.data[at + 1];
      setText(this.values[at], line.format(index === null ? values.at(-1) : values[index]));
    });
  }

  resize() {
    const width = this.plot.clientWidth;
    if (!width) return;
    if (this.uplot) this.uplot.setSize({ width, height: HEIGHT });
    else this.draw();
  }

  draw() {
    this.uplot?.destroy();
    this.uplot = new globalThis.uPlot(this.options(), this.data, this.plot);
  }

  options() {
    const scales = [...new Set(this.lines.map((line) => line.scale))];
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const format = (scale) => this.lines.find((line) => line.scale === scale).format;
    const values = (scale) => (_plot, splits) => splits.map((value) => (value === null ? "" : format(scale)(value)));
    return {
      width: this.plot.clientWidth || 400,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      hooks: { setCursor: [(plot) => this.showValues(plot.cursor.idx ?? null)] },
      scales: Object.fromEntries(scales.map((scale) => [scale, { range: (_plot, _low, high) => [0, Math.max(LEAST[scale], high * 1.1)] }])),
      axes: [
        { ...axis, space: 70, size: 28, values: (_plot, splits) => splits.map(clock) },
        ...scales.map((scale, at) => ({
          ...axis, scale, size: 66, ...(scale === "jobs" ? { incrs: WHOLE } : {}), side: at ? 1 : 3, values: values(scale), grid: { ...axis.grid, show: !at },
        })),
      ],
      series: [
        {},
        ...this.lines.map((line, at) => ({
          label: line.label, scale: line.scale, stroke: color(`--line-${at + 1}`), width: 1.6, points: { show: false }, spanGaps: false,
        })),
      ],
    };
  }
}
