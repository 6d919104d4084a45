/** The log levels of components, changed while the workers run. */

import { get, post } from "../api.js";
import { note } from "../dialogs.js";
import { h } from "../dom.js";
import { Loader } from "../loading.js";
import { Table } from "../table.js";

const LEVELS = [["debug"], ["info"], ["warn"], ["error"], ["critical"], ["", "as configured"]];

const COLUMNS = [
  { title: "Component", text: (row) => row.component },
  { title: "Level", text: (row) => row.level },
];

/** Open the view. */
export function openLevels(body, _route, app) {
  const table = new Table("Levels of the manager's process", COLUMNS, { key: (row) => row.component });
  const form = new Form(() => loader.run());
  body.append(form.help, form.element, h("section", { class: "card", "aria-label": "Log levels" }, table.element));
  const loader = new Loader(body, async (signal) => {
    const { levels } = await get("log-levels", {}, signal);
    const rows = Object.entries(levels).map(([component, level]) => ({ component, level }));
    table.update(rows);
    form.offerComponents(rows.map((row) => row.component));
  });
  form.offerTypes((app.overview?.types ?? []).map((each) => each.type));
  return { close: () => loader.close() };
}

class Form {
  constructor(changed) {
    this.components = h("datalist", { id: "components" });
    this.component = h("input", { name: "component", list: "components", required: true, placeholder: "*", autocomplete: "off" });
    this.level = h("select", { name: "level" }, LEVELS.map(([level, title]) => h("option", { value: level, selected: level === "info" }, title ?? level)));
    this.type = h("select", { name: "type" }, h("option", { value: "" }, "All processes"));
    const submit = async (event) => {
      event.preventDefault();
      const [component, level, type] = [this.component.value.trim(), this.level.value, this.type.value];
      await post("log-levels", { component, level, type });
      note(`${component} logs ${level ? `from level ${level}` : "as configured"}, in ${type ? `the processes of ${type}` : "all processes"}.`);
      changed();
    };
    this.element = h(
      "form",
      { class: "filters", onsubmit: submit },
      h("label", {}, "Component", this.component),
      h("label", {}, "Level", this.level),
      h("label", {}, "Where", this.type),
      h("button", { class: "main" }, "Set the level"),
      this.components,
    );
    this.help = h("p", { class: "soft" }, "A component is a worker type, the start of a logger's name such as bus, or * for all other lines. A level holds until the process ends.");
  }

  offerComponents(components) {
    this.components.replaceChildren(...components.map((component) => h("option", { value: component })));
  }

  offerTypes(types) {
    this.type.append(...types.map((type) => h("option", { value: type }, type)));
  }
}
