/** What operators do to dead letters: a dry run that says how many, a confirmation, the action. */

import { post } from "./api.js";
import { confirm, note, tell } from "./dialogs.js";
import { h } from "./dom.js";
import { plural } from "./format.js";

const ACTIONS = {
  requeue: {
    title: "Requeue",
    done: "requeued",
    text: "Their jobs run again, with all their attempts.",
  },
  discard: {
    title: "Discard",
    done: "discarded",
    text: "Their jobs are deleted and never run again. This cannot be undone.",
    danger: true,
  },
};

/**
 * Requeue or discard (*action*) the dead letters of *type* that *which*, {keys} or {filter}, names.
 *
 * Return whether something was done.
 */
export async function change(action, type, which) {
  const { title, done, text, danger } = ACTIONS[action];
  const path = `dead/${encodeURIComponent(type)}/${action}`;
  const { matched } = await post(path, { ...which, dry_run: true });
  const letters = plural(matched, "dead letter");
  if (!matched) {
    await tell(`Nothing to ${action}`, h("p", {}, `No dead letter of ${type} matches any more. Load the list again.`));
    return false;
  }
  const question = `${title} ${letters} of ${type}?`;
  if (!(await confirm(question, text, `${title} ${letters}`, { danger }))) return false;
  const result = await post(path, { ...which, dry_run: false });
  const left = result.expired ? ` ${plural(result.expired, "job")} may not be started any more; discard them.` : "";
  note(`${plural(result.done, "dead letter")} of ${type} ${done}.${left}`, left ? "bad" : "");
  return true;
}

/** Return buttons for both actions. *which()* is asked when one is pressed, *after()* called when something was done. */
export function buttons(type, which, after, what = "") {
  return Object.entries(ACTIONS).map(([action, { title }]) => {
    const press = async () => {
      button.disabled = true;
      try {
        if (await change(action, type, which())) after();
      } finally {
        button.disabled = false;
        button.focus();
      }
    };
    const button = h("button", { type: "button", onclick: press, "data-action": action }, `${title}${what ? ` ${what}` : ""}…`);
    return button;
  });
}
