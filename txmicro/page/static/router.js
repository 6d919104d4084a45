/** The views by their hash routes: "#/types/WB?seconds=60" is the path ["types", "WB"] and a query. */

/** Return the path and the query of the current hash. */
export function current() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a % that someone typed
  }
}

/** Return the hash of a view. */
export function link(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  const hash = `#/${path.map(encodeURIComponent).join("/")}`;
  return query.size ? `${hash}?${query}` : hash;
}

/** Change the query in the address without opening the view again. */
export function replaceQuery(parameters) {
  history.replaceState(null, "", link(current().path, parameters));
}
