/** The form for the token, shown when the API answers 401. */

import { get, setToken } from "./api.js";
import { h, setText } from "./dom.js";

/** Show the form in *root*; call *done* when the API has accepted the token. */
export function showLogin(root, done) {
  const problem = h("p", { class: "bad", role: "alert" });
  const token = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
  const submit = async (event) => {
    event.preventDefault();
    setToken(token.value);
    try {
      await get("session");
    } catch (error) {
      setToken("");
      setText(problem, error.status === 401 ? "The manager does not know this token." : error.message);
      return;
    }
    done();
  };
  root.replaceChildren(
    h(
      "form",
      { class: "card login", onsubmit: submit },
      h("h1", { tabindex: "-1" }, "Log in"),
      h("p", {}, "The secret of an entry of page_readers or page_operators. It is kept until this tab is closed."),
      h("label", {}, "Token", token),
      problem,
      h("button", { class: "main" }, "Log in"),
    ),
  );
  token.focus();
}
