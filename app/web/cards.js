/** How a master appears in a grid. */

import { moreText } from "./arranging.js";
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
	const comparable = hit && !hit.folded;
	const overlay = (label, symbol, click) =>
		button({ "aria-label": `${label} ${master.name}`, on: { click } }, symbol);
	return el(
		"article",
		{ class: classOf(master, hit) },
		link,
		hit && opener(hit, actions),
		el(
			"div",
			{ class: "over" },
			overlay("Find similar to", "like", () => actions.like(master)),
			comparable &&
				actions.compare &&
				overlay("Compare with", "compare", () => actions.compare(hit)),
			comparable && marker("More like", "plus", "more", master),
			comparable && marker("Less like", "minus", "less", master),
		),
	);
}

/** @param {Hit | null} hit */
function classOf(master, hit) {
	const under = hit?.under ? "card under" : "card";
	return isDeleting(master) ? `${under} leaving` : under;
}

/**
 * Returns a button that shows the results which a hit stands for, or hides them.
 * @param {Hit} hit
 */
function opener(hit, actions) {
	const text = hit.under ? "" : moreText(hit);
	if (!text) return null;
	const open = actions.isOpen(hit);
	const click = () => actions.toggle(hit);
	const label = `${open ? "Hide" : "Show"} ${text} like ${hit.master.name}`;
	const properties = { "aria-expanded": String(open), "aria-label": label, on: { click } };
	return el("div", { class: "stands" }, button(properties, null, open ? `Hide ${text}` : text));
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
	master && JSON.stringify([master, hit && shownOf(hit), isDeleting(master), mark]);

/** @param {Hit} hit */
const shownOf = (hit) => [hit.distance, hit.probability, hit.under, moreText(hit)];

export function disposeCard(cell) {
	const image = cell.querySelector("img");
	if (image) release(image);
}

/**
 * Returns the score and what it means: the same file, or the probability of a match.
 * @param {Hit} hit
 */
function scoreLabel(hit) {
	if (hit.folded) return el("span", { text: "near-identical" });
	const score = el("b", { text: hit.score.toFixed(1) });
	if (hit.exact) return [score, el("span", { class: "exact", text: "same file" })];
	const likely = hit.probability === null ? "" : `${percent(hit.probability)} match probability`;
	return [score, el("span", { text: likely })];
}

export const summarise = (attributes) =>
	Object.entries(attributes)
		.map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
		.join(" · ");

/** Handles a plain click here; a click that asks for a new tab or window stays with the browser. */
export function followLink(event, work) {
	if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
	event.preventDefault();
	work();
}
