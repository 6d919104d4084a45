/** Requests to the manager's API. */

const KEY = "txmicro-token";

/** An answer that is an error, or no answer (status 0). */
export class ApiError extends Error {
  constructor(status, error, message) {
    super(message);
    this.status = status;
    this.error = error;
  }
}

let unauthorized = () => {};

/** Set what is called when the API answers 401. */
export function onUnauthorized(action) {
  unauthorized = action;
}

/** Keep the token until the tab is closed; an empty one is removed. */
export function setToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

/** Return whether there is a token. */
export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

/** Send a request; return the response if its status is 2xx. Throw ApiError otherwise. */
export async function request(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { "X-Txmicro": "1", ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(`api/${path}`, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "NotConnected", "The manager does not answer. Check that it runs, and try again.");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  if (response.status === 401) unauthorized();
  try {
    const { error, message } = await response.json();
    return new ApiError(response.status, error, message);
  } catch {
    return new ApiError(response.status, "Error", `The manager answered with status ${response.status}.`);
  }
}

/** Return *path* with the parameters that are not empty. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  return query.size ? `${path}?${query}` : path;
}

/** Return the JSON at *path*. */
export async function get(path, parameters = {}, signal = undefined) {
  return (await request(withQuery(path, parameters), { signal })).json();
}

/** Send *body*; return the JSON of the answer. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const response = await request(path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.status === 204 ? {} : response.json();
}
