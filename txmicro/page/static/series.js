/** The series of a type as the page keeps it: the manager's answers are merged by time. */

/** Keeps the points of *seconds*; *names* are the names of the lines in the API's answers. */
export class Series {
  constructor(names, seconds) {
    this.names = names;
    this.seconds = seconds;
    this.times = [];
    this.lines = names.map(() => []);
  }

  /** Add an answer of /api/types/TYPE/series; points that are there are replaced. */
  merge(answer) {
    const from = this.times.findLastIndex((time) => time < answer.start - answer.step / 2) + 1;
    const length = answer[this.names[0]].length;
    this.times.length = from;
    for (let at = 0; at < length; at++) this.times.push(answer.start + at * answer.step);
    this.names.forEach((name, line) => {
      this.lines[line].length = from;
      this.lines[line].push(...answer[name]);
    });
    this.trim();
  }

  trim() {
    const oldest = this.times.at(-1) - this.seconds;
    const first = this.times.findIndex((time) => time > oldest);
    if (first > 0) for (const line of [this.times, ...this.lines]) line.splice(0, first);
  }

  /** Return the times, and the values of the lines with *names*. */
  data(names) {
    return [this.times, ...names.map((name) => this.lines[this.names.indexOf(name)])];
  }
}
