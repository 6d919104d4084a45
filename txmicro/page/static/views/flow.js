/** The flow of jobs between the types, as a picture and as a table. */

import { get } from "../api.js";
import { empty, h, scrolling, setAttribute, setText, svg } from "../dom.js";
import { plural, rate } from "../format.js";
import { isBend, layered, place } from "../layout.js";
import { Loader } from "../loading.js";
import { Table } from "../table.js";
import { typeLink } from "./index.js";

const BOX = { width: 150, height: 46, bend: 8, gapX: 132, gapY: 22, margin: 34 };
const APART = 9; // pixels between an edge and one back
const LABELED = 30; // edges; the rates of more are shown at the type that is pointed at

const COLUMNS = [
  { title: "From", text: (row) => row.source, href: (row) => typeLink(row.source), sort: (row) => row.source },
  { title: "To", text: (row) => row.target, href: (row) => typeLink(row.target), sort: (row) => row.target },
  { title: "Jobs/s", text: (row) => rate(row.jobs_per_second), number: true, sort: (row) => row.jobs_per_second },
  { title: "Errors/s", text: (row) => rate(row.errors_per_second), number: true, sort: (row) => row.errors_per_second, tone: (row) => (row.errors_per_second ? "bad" : "") },
];

/** Open the view. */
export function openFlow(body) {
  const region = scrolling("Picture of the flow between the types");
  region.classList.add("picture");
  const none = empty("No job has gone from one type to another yet.");
  const table = new Table("Rates", COLUMNS, { key: (row) => edgeKey(row), sorted: "Jobs/s", descending: true });
  body.append(
    h("p", { class: "soft" }, "An arrow leads from the type that sends jobs to the type that does them. Point at a type to see only its own."),
    h("section", { class: "card", "aria-label": "Flow" }, region, none),
    h("section", { class: "card", "aria-label": "Rates" }, table.element),
  );
  let picture = null;
  const loader = new Loader(body, async (signal) => {
    const flow = complete(await get("flow", {}, signal));
    none.hidden = flow.nodes.length > 0;
    if (picture?.shape !== shapeOf(flow)) {
      picture = new Picture(flow);
      region.replaceChildren(picture.element);
    }
    picture.update(flow);
    table.update(flow.edges);
  }, 2);
  return { close: () => loader.close() };
}

const edgeKey = (edge) => `${edge.source} → ${edge.target}`;
const shapeOf = (flow) => JSON.stringify([flow.nodes.map((node) => node.type), flow.edges.map(edgeKey)]);

/** Add nodes that only edges name: types without a worker now, and senders that are not workers. */
function complete({ nodes, edges }) {
  const known = new Set(nodes.map((node) => node.type));
  const others = new Set(edges.flatMap((edge) => [edge.source, edge.target]).filter((type) => !known.has(type)));
  const all = [...nodes, ...[...others].map((type) => ({ type, workers: 0 }))];
  const compare = (a, b) => (a < b ? -1 : 1);
  return {
    nodes: all.sort((a, b) => compare(a.type, b.type)),
    edges: edges.toSorted((a, b) => compare(edgeKey(a), edgeKey(b))),
  };
}

/** The picture of one set of nodes and edges; new rates change only texts and lines. */
class Picture {
  constructor(flow) {
    this.shape = shapeOf(flow);
    const { columns, chains, back } = layered(flow.nodes.map((node) => node.type), flow.edges);
    const size = place(columns, BOX);
    this.labeled = flow.edges.length <= LABELED;
    this.edges = new Map(flow.edges.map((edge) => [edgeKey(edge), this.edge(edge, size.places, chains.get(edge), back.has(edge))]));
    this.nodes = new Map(flow.nodes.map((node) => [node.type, this.node(node, size.places.get(node.type))]));
    const names = flow.edges.map(edgeKey).join(", ");
    this.element = svg(
      "svg",
      { width: size.width, height: size.height, viewBox: `0 0 ${size.width} ${size.height}`, role: "group", "aria-label": `Flow: ${names}` },
      svg("defs", {}, arrow("arrow", "context-stroke")),
      [...this.edges.values()].map((edge) => edge.path),
      [...this.edges.values()].map((edge) => edge.label),
      [...this.nodes.values()].map((node) => node.element),
    );
  }

  edge(edge, places, chain, isBack) {
    const { d, x, y } = chain ? curve(chain, places, isBack) : loop(places.get(edge.source));
    const label = svg("text", { class: "rate", x, y, "text-anchor": "middle", hidden: !this.labeled });
    return { source: edge.source, target: edge.target, path: svg("path", { class: "edge", d, "marker-end": "url(#arrow)" }), label };
  }

  node(node, { x, y }) {
    const workers = svg("text", { class: "small", x: x + 12, y: y + 37 });
    const element = svg(
      "a",
      { class: "node", href: typeLink(node.type), "aria-label": `Type ${node.type}` },
      svg("rect", { x, y, width: BOX.width, height: BOX.height, rx: 8 }),
      svg("text", { class: "name", x: x + 12, y: y + 19 }, short(node.type)),
      svg("title", {}, node.type),
      workers,
    );
    for (const [event, type] of [["mouseenter", node.type], ["focus", node.type], ["mouseleave", null], ["blur", null]]) {
      element.addEventListener(event, () => this.light(type));
    }
    return { element, workers };
  }

  update({ nodes, edges }) {
    const highest = Math.max(1e-9, ...edges.map((edge) => edge.jobs_per_second ?? 0));
    const failing = new Set();
    for (const edge of edges) {
      const { path, label } = this.edges.get(edgeKey(edge));
      const [jobs, errors] = [edge.jobs_per_second ?? 0, edge.errors_per_second ?? 0];
      if (errors) failing.add(edge.target);
      setAttribute(path, "class", `edge ${errors ? "bad" : jobs ? "" : "idle"}`.trim() + this.lit(edge));
      setAttribute(path, "stroke-width", (1.5 + 4.5 * Math.sqrt(jobs / highest)).toFixed(1));
      setAttribute(label, "class", (errors ? "rate bad" : "rate") + this.lit(edge));
      setText(label, errors ? `${rate(jobs)}/s, ${rate(errors)} errors/s` : `${rate(jobs)}/s`);
    }
    for (const node of nodes) {
      const { element, workers } = this.nodes.get(node.type);
      setText(workers, node.workers ? plural(node.workers, "worker") : "no workers");
      setAttribute(element, "class", (failing.has(node.type) ? "node bad" : "node") + (this.near?.has(node.type) ? " lit" : ""));
    }
  }

  lit(edge) {
    return this.pointed && (edge.source === this.pointed || edge.target === this.pointed) ? " lit" : "";
  }

  /** Show only the edges of *type*; null: all. */
  light(type) {
    this.pointed = type;
    this.near = new Set([type]);
    this.element.classList.toggle("dim", type !== null);
    for (const edge of this.edges.values()) {
      const own = edge.source === type || edge.target === type;
      if (own) this.near.add(edge.source).add(edge.target);
      edge.path.classList.toggle("lit", own);
      edge.label.classList.toggle("lit", own);
      setAttribute(edge.label, "hidden", this.labeled || own ? null : "true");
    }
    for (const [name, { element }] of this.nodes) element.classList.toggle("lit", this.near.has(name));
  }
}

function short(name) {
  return name.length > 17 ? `${name.slice(0, 16)}…` : name;
}

function arrow(id, fill) {
  const shape = svg("path", { d: "M0 0L8 4L0 8Z", fill });
  return svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" }, shape);
}

/** An edge from the right of a node, through its bends, to the left of another; one back leads the other way. */
function curve(chain, places, isBack) {
  const shift = isBack ? APART : -APART / 2;
  const points = chain.flatMap((id, at) => {
    const { x, y } = places.get(id);
    const middle = y + (isBend(id) ? BOX.bend / 2 : BOX.height / 2 + shift);
    if (isBend(id)) return [[x, middle], [x + BOX.width, middle]];
    return [[at ? x : x + BOX.width, middle]];
  });
  const [before, after] = [points.at(points.length / 2 - 1), points.at(points.length / 2)];
  const label = { x: (before[0] + after[0]) / 2, y: (before[1] + after[1]) / 2 - 5 };
  return { d: path(isBack ? points.toReversed() : points), ...label };
}

function path(points) {
  return points.slice(1).reduce((d, [x, y], at) => {
    const [fromX, fromY] = points[at];
    const bend = (x - fromX) / 2;
    return y === fromY ? `${d}H${x}` : `${d}C${fromX + bend} ${fromY} ${x - bend} ${y} ${x} ${y}`;
  }, `M${points[0].join(" ")}`);
}

/** An edge of a type to itself, below it. */
function loop({ x, y }) {
  const [right, left, bottom, low] = [x + BOX.width * 0.7, x + BOX.width * 0.3, y + BOX.height, y + BOX.height + 22];
  return { d: `M${right} ${bottom}C${right} ${low} ${left} ${low} ${left} ${bottom}`, x: x + BOX.width / 2, y: low - 2 };
}
