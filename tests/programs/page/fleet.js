// Answers the page's requests with a large fleet: 50 types, 1,000 workers, and ten updates a second instead of one.
(() => {
  const TYPES = 50;
  const WORKERS = 1000;
  const FASTER = 100; // milliseconds between updates
  const now = () => Date.now() / 1000;
  const times = () => ({ p50: Math.random() / 100, p99: Math.random() / 10 });
  const queue = () => ({ jobs: Math.floor(Math.random() * 100), consumers: 20, oldest: Math.random() });
  const names = Array.from({ length: TYPES }, (_, at) => `Type${at}`);
  const overview = () => ({
    time: now(), share: 1, workers: WORKERS, bus: { connected: true, obstacle: "" }, records_per_second: 2000, remembered_jobs: 1e6,
    types: names.map((type) => ({
      type, workers: 20, suspect: 0, capacity: 400, running: Math.floor(Math.random() * 400), held: 0, pending: 3,
      jobs_per_second: Math.random() * 100, errors_per_second: Math.random(), wait: times(), run: times(), trip: times(),
      queues: { interactive: queue(), durable: queue(), quarantine: queue(), dead: queue() },
    })),
  });
  const series = () => Object.fromEntries([
    ["start", Math.floor(now()) - 600], ["step", 1],
    ...["jobs", "errors", "wait_p50", "wait_p99", "run_p50", "run_p99", "depth", "oldest"].map((name) => [name, Array.from({ length: 600 }, Math.random)]),
  ]);
  const workers = (query) => {
    const [first, limit] = [Number(query.get("after") ?? 0), Number(query.get("limit"))];
    const list = Array.from({ length: limit }, (_, at) => first + at).map((at) => ({
      id: `${names[at % TYPES]}:${at}`, type: names[at % TYPES], state: "alive", host: "host", pid: at, version: "1", capacity: 20, running: Math.floor(Math.random() * 20),
      held: 0, pending: 0, started: 0, uptime: at, heard: now(), metrics: "", jobs_per_second: Math.random(),
    }));
    return { total: WORKERS, next: first + limit < WORKERS ? String(first + limit) : null, workers: list };
  };
  const flow = () => ({
    nodes: names.map((type) => ({ type, workers: 20 })),
    edges: names.flatMap((source, at) => [at * 2 + 1, at * 2 + 2, at + 7].filter((to) => to < TYPES).map((to) => ({ source, target: names[to], jobs_per_second: Math.random() * 50, errors_per_second: 0 }))),
  });
  const events = () => new ReadableStream({
    start(controller) {
      const send = () => {
        controller.enqueue(new TextEncoder().encode(`event: update\ndata: ${JSON.stringify(overview())}\n\n`));
        globalThis.updates = (globalThis.updates ?? 0) + 1;
      };
      setInterval(send, FASTER);
    },
  });
  const answers = { session: () => ({ name: "", role: "operator", manager: "", version: "", time: now() }), overview, workers, flow };
  const real = globalThis.fetch;
  globalThis.fetch = async (url, options) => {
    const { pathname, searchParams } = new URL(url, location.href);
    const path = pathname.replace("/api/", "");
    if (path === "events") return new Response(events());
    if (path.endsWith("/series")) return Response.json(series());
    return answers[path] ? Response.json(answers[path](searchParams)) : real(url, options);
  };
})();
