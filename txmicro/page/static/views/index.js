/**
 * The list of views.
 *
 * A view is {key, title, hash, operator, matches(path), heading(path), open(body, route, app, head)}. *open* fills the
 * body and returns {update(overview), line(line), failures(), close()}, all optional. Views without a key are not in the
 * navigation.
 */

import { link } from "../router.js";
import { openAudit } from "./audit.js";
import { openDead } from "./dead.js";
import { openDeadTypes } from "./dead_types.js";
import { openErrors } from "./errors.js";
import { openFailure } from "./failure.js";
import { openFailures } from "./failures.js";
import { openFlow } from "./flow.js";
import { openJob } from "./job.js";
import { openJobs } from "./jobs.js";
import { openLevels } from "./levels.js";
import { openOverview } from "./overview.js";
import { openType } from "./type.js";
import { openWorkers } from "./workers.js";

const list = (name, parts = 1) => (path) => path.length === parts && path[0] === name;

export const VIEWS = [
  { key: "o", title: "Overview", hash: "#/", matches: (path) => !path.length, open: openOverview },
  { key: "w", title: "Workers", hash: "#/workers", matches: list("workers"), open: openWorkers },
  { key: "l", title: "Flow", hash: "#/flow", matches: list("flow"), open: openFlow },
  { key: "f", title: "Failures", hash: "#/failures", matches: list("failures"), open: openFailures },
  { key: "d", title: "Dead letters", hash: "#/dead", matches: list("dead"), open: openDeadTypes },
  { key: "j", title: "Jobs", hash: "#/jobs", matches: list("jobs"), open: openJobs },
  { key: "e", title: "Errors", hash: "#/errors", matches: list("errors"), open: openErrors },
  { key: "a", title: "Audit", hash: "#/audit", matches: list("audit"), open: openAudit, operator: true },
  { key: "v", title: "Log levels", hash: "#/levels", matches: list("levels"), open: openLevels, operator: true },
  { title: "Type", hash: "#/", matches: list("types", 2), heading: (path) => `Type ${path[1]}`, open: openType },
  { title: "Failure", hash: "#/failures", matches: list("failures", 2), heading: () => "Group of failures", open: openFailure },
  { title: "Dead letters", hash: "#/dead", matches: list("dead", 2), heading: (path) => `Dead letters of ${path[1]}`, open: openDead },
  { title: "Job", hash: "#/jobs", matches: list("jobs", 2), heading: (path) => `Job ${path[1]}`, open: openJob },
  { title: "Not found", hash: "", matches: () => true, open: openNotFound },
];

function openNotFound(body) {
  body.textContent = "This address is not a view of the page. The navigation lists the views.";
  return {};
}

/** Return the hash of a type's view. */
export function typeLink(type) {
  return link(["types", type]);
}
