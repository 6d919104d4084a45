/** The last minutes of each type's rates, for the small graphs of the overview. */

const LENGTH = 120; // updates, of which there is one a second

/** Keeps a ring of (jobs, errors) per second for each type. */
export class History {
  constructor() {
    this.types = new Map();
  }

  /** Add an overview. */
  add(overview) {
    for (const { type, jobs_per_second: jobs, errors_per_second: errors } of overview.types) {
      const points = this.of(type);
      points.push([jobs ?? 0, errors ?? 0]);
      if (points.length > LENGTH) points.shift();
    }
  }

  /** Put the series that the manager kept before this page was opened in front. */
  seed(type, series) {
    const points = this.of(type);
    const missing = Math.max(0, LENGTH - points.length);
    const older = series.jobs.map((jobs, index) => [jobs ?? 0, series.errors[index] ?? 0]);
    points.unshift(...older.slice(Math.max(0, older.length - missing - points.length), older.length - points.length));
  }

  /** Return the points of *type*, the oldest first. */
  of(type) {
    if (!this.types.has(type)) this.types.set(type, []);
    return this.types.get(type);
  }
}

/** Return the path of *points*' jobs or errors (*index*) in a box of *width* and *height*. */
export function sparkPath(points, index, width, height) {
  const highest = points.reduce((most, [jobs, errors]) => Math.max(most, jobs, errors), 1e-9);
  const step = width / (LENGTH - 1);
  const left = width - (points.length - 1) * step;
  const tenth = (value) => Math.round(value * 10) / 10;
  let path = "";
  for (let at = 0; at < points.length; at++) {
    const y = height - 1 - (points[at][index] / highest) * (height - 2);
    path += `${at ? "L" : "M"}${tenth(left + at * step)} ${tenth(y)}`;
  }
  return path;
}
