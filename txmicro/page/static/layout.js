/**
 * Places the nodes of a graph in columns, so that most edges lead to the right (Sugiyama's method). Pure functions.
 *
 * An edge over several columns gets a narrow place in each column between, so that it does not go through nodes.
 */

const ROUNDS = 8; // of ordering: more change little for 50 nodes

/** Return {columns: ids in order, chains: for each edge, the ids that it goes through from left to right, back: a set}. */
export function layered(ids, edges) {
  const back = backEdges(ids, edges);
  const ends = edges.filter((edge) => edge.source !== edge.target).map((edge) => (back.has(edge) ? [edge.target, edge.source, edge] : [edge.source, edge.target, edge]));
  const level = levels(ids, ends);
  const columns = [];
  for (const id of ids) (columns[level.get(id)] ??= []).push(id);
  const chains = new Map();
  for (const [source, target, edge] of ends) {
    const chain = [source];
    for (let at = level.get(source) + 1; at < level.get(target); at++) {
      const bend = { edge, at }; // an id of its own
      columns[at].push(bend);
      chain.push(bend);
    }
    chains.set(edge, [...chain, target]);
  }
  order(columns, neighbors(chains.values()));
  return { columns, chains, back };
}

/** Return whether an id is a place that an edge goes through, and not a node. */
export function isBend(id) {
  return typeof id === "object";
}

/** Return the edges that close a circle. */
function backEdges(ids, edges) {
  const out = new Map(ids.map((id) => [id, edges.filter((edge) => edge.source === id && edge.target !== id)]));
  const incoming = new Set([...out.values()].flat().map((edge) => edge.target));
  const state = new Map();
  const back = new Set();
  const visit = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id)) {
      if (state.get(edge.target) === "open") back.add(edge);
      else if (!state.has(edge.target)) visit(edge.target);
    }
    state.set(id, "done");
  };
  for (const id of ids) if (!incoming.has(id)) visit(id); // where jobs come from is on the left
  for (const id of ids) if (!state.has(id)) visit(id);
  return back;
}

function levels(ids, ends) {
  const level = new Map(ids.map((id) => [id, 0]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const [source, target] of ends) {
      if (level.get(target) <= level.get(source)) {
        level.set(target, level.get(source) + 1);
        changed = true;
      }
    }
  }
  return level;
}

/** Return the neighbors of each id to the left and to the right. */
function neighbors(chains) {
  const found = { left: new Map(), right: new Map() };
  const add = (side, id, other) => found[side].set(id, [...(found[side].get(id) ?? []), other]);
  for (const chain of chains) {
    for (let at = 1; at < chain.length; at++) {
      add("right", chain[at - 1], chain[at]);
      add("left", chain[at], chain[at - 1]);
    }
  }
  return found;
}

/** Order each column by the mean place of the neighbors, from the left and from the right in turn. */
function order(columns, { left, right }) {
  const places = new Map(columns.flatMap((column) => column.map((id, at) => [id, at / column.length])));
  for (let round = 0; round < ROUNDS; round++) {
    const [side, turn] = round % 2 ? [right, columns.toReversed()] : [left, columns];
    for (const column of turn) {
      const mean = (id) => {
        const found = side.get(id);
        return found ? found.reduce((total, each) => total + places.get(each), 0) / found.length : places.get(id);
      };
      const means = new Map(column.map((id) => [id, mean(id)]));
      column.sort((a, b) => means.get(a) - means.get(b));
      column.forEach((id, at) => places.set(id, at / column.length));
    }
  }
}

/** Return the places of the ids, {x, y} of the upper left corner, and the size of the picture. */
export function place(columns, { width, height, bend, gapX, gapY, margin }) {
  const size = (id) => (isBend(id) ? bend : height);
  const tall = (column) => column.reduce((total, id) => total + size(id) + gapY, -gapY);
  const highest = Math.max(height, ...columns.map(tall));
  const places = new Map();
  columns.forEach((column, at) => {
    let y = margin + (highest - tall(column)) / 2;
    for (const id of column) {
      places.set(id, { x: margin + at * (width + gapX), y });
      y += size(id) + gapY;
    }
  });
  return { places, width: margin * 2 + columns.length * (width + gapX) - gapX, height: margin * 2 + highest };
}
