/** Places the nodes of a graph in columns, so that most edges lead to the right. Pure functions. */

const ROUNDS = 6; // of ordering: more change little for 50 nodes

/** Return {columns: ids in order, back: the edges that lead to the left, or to their own node}. */
export function layered(ids, edges) {
  const { forward, back } = withoutCycles(ids, edges);
  const columns = longestPaths(ids, forward);
  order(columns, forward);
  return { columns, back };
}

function withoutCycles(ids, edges) {
  const out = new Map(ids.map((id) => [id, edges.filter((edge) => edge.source === id)]));
  const incoming = new Set(edges.filter((edge) => edge.source !== edge.target).map((edge) => edge.target));
  const state = new Map();
  const forward = [];
  const back = new Set();
  const visit = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id)) {
      if (state.get(edge.target) === "open") back.add(edge);
      else {
        forward.push(edge);
        if (!state.has(edge.target)) visit(edge.target);
      }
    }
    state.set(id, "done");
  };
  for (const id of ids) if (!incoming.has(id)) visit(id); // where jobs come from is on the left
  for (const id of ids) if (!state.has(id)) visit(id);
  return { forward, back };
}

function longestPaths(ids, edges) {
  const level = new Map(ids.map((id) => [id, 0]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { source, target } of edges) {
      if (level.get(target) <= level.get(source)) {
        level.set(target, level.get(source) + 1);
        changed = true;
      }
    }
  }
  const columns = [];
  for (const id of ids) (columns[level.get(id)] ??= []).push(id);
  return columns;
}

/** Order each column by the mean place of the neighbors, to the right and to the left in turn. */
function order(columns, edges) {
  for (let round = 0; round < ROUNDS; round++) {
    const rightwards = round % 2 === 0;
    const places = new Map(columns.flatMap((column) => column.map((id, at) => [id, at / column.length])));
    for (const column of rightwards ? columns : columns.toReversed()) {
      const mean = new Map(column.map((id) => [id, barycenter(id, edges, places, rightwards)]));
      column.sort((a, b) => mean.get(a) - mean.get(b));
      column.forEach((id, at) => places.set(id, at / column.length));
    }
  }
}

function barycenter(id, edges, places, rightwards) {
  const [own, other] = rightwards ? ["target", "source"] : ["source", "target"];
  const found = edges.filter((edge) => edge[own] === id).map((edge) => places.get(edge[other]));
  return found.length ? found.reduce((total, place) => total + place, 0) / found.length : places.get(id);
}

/** Return the places of the nodes, {id: {x, y}}, and the size of the picture. */
export function place(columns, { width, height, gapX, gapY, margin }) {
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const total = margin * 2 + tallest * (height + gapY) - gapY;
  const places = new Map();
  columns.forEach((column, at) => {
    const top = (total - (column.length * (height + gapY) - gapY)) / 2;
    column.forEach((id, row) => places.set(id, { x: margin + at * (width + gapX), y: top + row * (height + gapY) }));
  });
  return { places, width: margin * 2 + columns.length * (width + gapX) - gapX, height: total };
}
