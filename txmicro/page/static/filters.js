/** Forms that filter a list; their values are in the address, so that a filtered list can be linked. */

import { debounce, h } from "./dom.js";
import { replaceQuery } from "./router.js";

/** Return a field for text. */
export function text(name, label, options = {}) {
  return { name, label, control: (value) => h("input", { type: "search", name, value, autocomplete: "off", ...options }) };
}

/** Return a field with choices, of [value, title]. */
export function choice(name, label, choices) {
  const option = (value, title, chosen) => h("option", { value, selected: value === chosen }, title);
  return {
    name,
    label,
    control: (chosen) => h("select", { name }, choices.map(([value, title]) => option(value, title, chosen))),
  };
}

/** A form with *fields*; calls *changed()* after a change. */
export class Filters {
  constructor(fields, query, changed) {
    this.controls = fields.map((field) => field.control(query.get(field.name) ?? ""));
    const labels = fields.map((field, index) => h("label", {}, field.label, this.controls[index]));
    const apply = () => {
      replaceQuery(this.values());
      changed();
    };
    this.element = h("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() }, labels);
    this.element.addEventListener("input", debounce(apply));
  }

  /** Return the values by the names of the fields. */
  values() {
    return Object.fromEntries(this.controls.map((control) => [control.name, control.value.trim()]));
  }

  /** Offer *types* in the choice of a type, and keep what is chosen. */
  offerTypes(types) {
    const select = this.controls.find((control) => control.name === "type");
    const known = new Set([...select.options].map((option) => option.value));
    for (const type of types) if (!known.has(type)) select.append(h("option", { value: type }, type));
  }
}

/** Return the field for a type. The chosen one is there from the start, others are offered later. */
export function typeChoice(query) {
  const chosen = query.get("type");
  return choice("type", "Type", [["", "All types"], ...(chosen ? [[chosen, chosen]] : [])]);
}

/** Return the field for a group of failures, in a list; the list is empty unless the address has the group's id. */
export function groupFields(query) {
  const value = query.get("group");
  return value ? [choice("group", "Failures", [[value, "Of one group"], ["", "All"]])] : [];
}
