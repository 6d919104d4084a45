/** Dialogs and short notes. */

import { h } from "./dom.js";

/** Show a note for some seconds; screen readers read it. */
export function note(text, tone = "") {
  const element = h("div", { class: `note ${tone}` }, text);
  document.getElementById("notes").append(element);
  setTimeout(() => element.remove(), 8000);
}

/** Show a dialog; return a promise of the value of the button that closed it, "" for Escape. */
export function ask(title, content, buttons) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, title),
    content,
    h("form", { method: "dialog", class: "actions" }, buttons),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    dialog.showModal();
  });
}

/** Ask whether to do something. Return a promise of true or false. */
export async function confirm(title, text, action, { danger = false } = {}) {
  const cancel = h("button", { value: "" }, "Cancel");
  const go = h("button", { value: "go", class: danger ? "danger" : "main" }, action);
  return (await ask(title, h("p", {}, text), [cancel, go])) === "go";
}

/** Tell something that takes one button to close. */
export function tell(title, content) {
  return ask(title, content, [h("button", { value: "", class: "main" }, "Close")]);
}
