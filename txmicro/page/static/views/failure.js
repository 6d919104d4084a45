/** One group of failures: its jobs, its dead letters, and what can be done with all of these. */

import { get } from "../api.js";
import { buttons } from "../bulk.js";
import { empty, h } from "../dom.js";
import { age, clock, count, plural } from "../format.js";
import { Loader } from "../loading.js";
import { link } from "../router.js";
import { typeLink } from "./index.js";

const LIMIT = 1000; // groups: the API gives no single one

/** Open the view. */
export function openFailure(body, route, app) {
  const id = route.path[1];
  const card = h("section", { class: "card" });
  body.append(card);
  let shown = null;
  const loader = new Loader(body, async (signal) => {
    const { groups } = await get("failures", { limit: LIMIT }, signal);
    const group = groups.find((each) => each.id === id);
    const state = JSON.stringify(group);
    if (state === shown) return; // the focus stays where it is
    const focused = document.activeElement?.dataset?.action;
    card.replaceChildren(...(group ? describe(group, app, () => loader.run()) : [gone()]));
    if (focused) card.querySelector(`[data-action="${focused}"]`)?.focus();
    shown = state;
  }, 5);
  return { failures: () => loader.loading || loader.run(), close: () => loader.close() };
}

function gone() {
  return h("div", {}, empty("No failure of this group is left. Its dead letters were requeued or discarded, or the manager has forgotten its jobs."), h("a", { href: "#/failures" }, "All failures"));
}

function describe(group, app, reload) {
  const facts = [
    ["Type", h("a", { href: typeLink(group.type) }, group.type)],
    ["Error", group.error],
    ["Message", group.message],
    ["Count", count(group.count)],
    ["First", `${clock(group.first)} (${age(group.first, app.now)})`],
    ["Last", `${clock(group.last)} (${age(group.last, app.now)})`],
    ["Example", h("a", { href: link(["jobs", group.sample]) }, `Job ${group.sample}`)],
    ["Jobs", h("a", { href: link(["jobs"], { group: group.id }) }, "Jobs of this group")],
    ["Dead letters", letters(group)],
  ];
  return [
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    ...(app.operator && group.dead ? [actions(group, reload)] : []),
  ];
}

function letters(group) {
  if (!group.dead) return "None, as far as known";
  return h("a", { href: link(["dead", group.type], { group: group.id }) }, `${plural(group.dead, "dead letter")} of this group`);
}

function actions(group, reload) {
  const which = () => ({ filter: { group: group.id } });
  return h("div", { class: "actions" }, buttons(group.type, which, reload, "all of this group"));
}
