/** What a master looks like in a grid. */

import { isLeaving } from "./deletion.js";
import { button, el, icon, name } from "./dom.js";
import { release, show, thumbnailSize } from "./images.js";

/** A card, or a placeholder where the master is not there yet. `actions`: `open`, `like`, and for hits `compare`. */
export function card(master, width, actions, hit = null) {
  if (!master) return el("div", { class: "card waiting", "aria-hidden": "true" }, el("div", { class: "picture" }));
  const image = el("img", { alt: "", draggable: "false", decoding: "async" });
  show(image, master, thumbnailSize(width));
  const attributes = summary(master.attributes);
  const opens = el(
    "a",
    { class: "opens", href: actions.href(master), on: { click: (event) => follow(event, () => actions.open(master)) } },
    el("span", { class: "picture" }, image, el("span", { class: "lost" }, icon("broken"), "No preview")),
    hit && el("span", { class: "score" }, likeness(hit)),
    el("span", { class: "name" }, name(master.name || "Untitled")),
    attributes && el("span", { class: "attributes" }, name(attributes)),
  );
  return el(
    "article",
    { class: isLeaving(master) ? "card leaving" : "card" },
    opens,
    el(
      "div",
      { class: "over" },
      button({ "aria-label": `More like ${master.name}`, on: { click: () => actions.like(master) } }, "like"),
      hit && button({ "aria-label": `Compare with ${master.name}`, on: { click: () => actions.compare(hit) } }, "compare"),
    ),
  );
}

/** Other text, other card. */
export const look = (master, hit) => master && JSON.stringify([master, hit?.distance, hit?.probability, isLeaving(master)]);

export function dispose(cell) {
  const image = cell.querySelector("img");
  if (image) release(image);
}

/** The score, and what it means: the same file, or how probably the same thing. */
export function likeness(hit) {
  const score = el("b", { text: hit.score.toFixed(1) });
  if (hit.exact) return [score, el("span", { class: "exact", text: "same file" })];
  const said = hit.probability === null ? "" : `${percent(hit.probability)} same thing`;
  return [score, el("span", { text: said })];
}

export const percent = (probability) => (probability < 0.01 ? "<1 %" : `${Math.round(probability * 100)} %`);

const summary = (attributes) =>
  Object.entries(attributes)
    .map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(" · ");

/** A plain click does it here; one that asks for a new tab or window goes its way. */
export function follow(event, work) {
  if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  work();
}
