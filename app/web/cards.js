/** How a master appears in a grid. */

import { isDeleting } from "./deletion.js";
import { button, el, icon, isolated } from "./dom.js";
import { percent } from "./format.js";
import { release, show, thumbnailSize } from "./images.js";
import { markOf, toggle } from "./refine.js";

/**
 * Creates a card, or a placeholder for a master that is not loaded yet.
 * @param {Master | undefined} master
 * @param {Hit | null} hit
 */
export function card(master, width, actions, hit = null) {
	if (!master) {
		const picture = el("div", { class: "picture" });
		return el("div", { class: "card waiting", "aria-hidden": "true" }, picture);
	}
	const image = el("img", { alt: "", draggable: "false", decoding: "async" });
	show(image, master, thumbnailSize(width));
	const attributes = summarise(master.attributes);
	const open = (event) => followLink(event, () => actions.open(master));
	const lost = el("span", { class: "lost" }, icon("broken"), "No preview");
	const link = el(
		"a",
		{ class: "opens", href: actions.href(master), on: { click: open } },
		el("span", { class: "picture" }, image, lost),
		hit && el("span", { class: "score" }, scoreLabel(hit)),
		el("span", { class: "name" }, isolated(master.name || "Untitled")),
		attributes && el("span", { class: "attributes" }, isolated(attributes)),
	);
	const overlay = (label, symbol, click) =>
		button({ "aria-label": `${label} ${master.name}`, on: { click } }, symbol);
	return el(
		"article",
		{ class: isDeleting(master) ? "card leaving" : "card" },
		link,
		el(
			"div",
			{ class: "over" },
			overlay("Find similar to", "like", () => actions.like(master)),
			hit && actions.compare && overlay("Compare with", "compare", () => actions.compare(hit)),
			hit && marker("More like", "plus", "more", master),
			hit && marker("Less like", "minus", "less", master),
		),
	);
}

/** Returns a button that refines the search by a result, or takes that back. */
function marker(label, symbol, mark, { id, name }) {
	const pressed = String(markOf(id) === mark);
	const click = () => toggle(mark, id);
	return button(
		{ "aria-label": `${label} ${name}`, "aria-pressed": pressed, on: { click } },
		symbol,
	);
}

/** Returns a text that changes when the card must be rendered again. */
export const cardKey = (master, hit, mark = "") =>
	master && JSON.stringify([master, hit?.distance, hit?.probability, isDeleting(master), mark]);

export function disposeCard(cell) {
	const image = cell.querySelector("img");
	if (image) release(image);
}

/**
 * Returns the score and what it means: the same file, or the probability of a match.
 * @param {Hit} hit
 */
function scoreLabel(hit) {
	const score = el("b", { text: hit.score.toFixed(1) });
	if (hit.exact) return [score, el("span", { class: "exact", text: "same file" })];
	const likely = hit.probability === null ? "" : `${percent(hit.probability)} match probability`;
	return [score, el("span", { text: likely })];
}

const summarise = (attributes) =>
	Object.entries(attributes)
		.map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
		.join(" · ");

/** Handles a plain click here; a click that asks for a new tab or window stays with the browser. */
export function followLink(event, work) {
	if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
	event.preventDefault();
	work();
}
