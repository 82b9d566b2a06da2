/** What refines a search: results that are marked as "more like this" or "less like this". */

import * as api from "./api.js";
import { button, el, find } from "./dom.js";
import { release, show } from "./images.js";
import * as state from "./state.js";

export const MOST = 18; // the service takes 20 examples, of which two may be a picture and words
const MORE = 0.5;
const LESS = -0.4;

/**
 * Returns the examples of a search in the form of the service. A file is the part `sample`.
 * @param {State} now
 */
export function examplesOf(now) {
	const { text, weight, more, less } = now;
	const picture = state.hasPicture(now);
	const examples = [];
	if (picture) {
		const box = now.box ? { box: now.box.split(",").map(Number) } : {};
		const source = now.like ? { master_id: now.like } : { upload: "sample" };
		examples.push({ ...source, ...box, weight: text ? 1 - weight : 1 });
	}
	if (text) examples.push({ text, weight: picture ? weight : 1 });
	for (const id of more) examples.push({ master_id: id, weight: MORE });
	for (const id of less) examples.push({ master_id: id, weight: LESS });
	return examples;
}

/** @param {State} now */
export const isRefined = ({ more, less }) => more.length + less.length > 0;

/** Returns "more", "less" or "". */
export function markOf(id) {
	const { more, less } = state.current();
	if (more.includes(id)) return "more";
	return less.includes(id) ? "less" : "";
}

/**
 * Marks a master, or removes its mark if it has the same one.
 * @param {"more" | "less"} mark
 */
export function toggle(mark, id) {
	const now = state.current();
	const without = (ids) => ids.filter((each) => each !== id);
	const lists = { more: without(now.more), less: without(now.less) };
	const marked = now[mark].includes(id);
	if (!marked && lists.more.length + lists.less.length < MOST) lists[mark].push(id);
	state.update(lists);
}

/** Removes the mark of a deleted master. */
export function forget(id) {
	const mark = markOf(id);
	if (mark) state.update({ [mark]: state.current()[mark].filter((each) => each !== id) });
}

/** The marked results in the panel beside the hits. A click on one removes its mark. */
export class Refinements {
	constructor() {
		this.shown = "";
		/** @type {Map<string, Promise<Master | null>>} */
		this.masters = new Map();
	}

	/** @param {State} now */
	show({ more, less }) {
		const wanted = JSON.stringify([more, less]);
		if (wanted === this.shown) return;
		this.shown = wanted;
		for (const image of find("#refinements").querySelectorAll("img")) release(image);
		find("#refinements").hidden = !more.length && !less.length;
		find("#refinements").replaceChildren(
			...this.group("more", "More like", more),
			...this.group("less", "Less like", less),
		);
	}

	group(mark, label, ids) {
		if (!ids.length) return [];
		const marked = ids.map((id) => this.chip(mark, label, id));
		return [el("p", { text: label }), el("div", { class: "marked" }, ...marked)];
	}

	chip(mark, label, id) {
		const image = el("img", { alt: "", draggable: "false" });
		const click = () => toggle(mark, id);
		const remove = button({ "aria-label": `Remove from “${label}”`, on: { click } }, "close");
		remove.prepend(image);
		this.load(id).then((master) => {
			if (!master || !remove.isConnected) return;
			remove.setAttribute("aria-label", `Remove ${master.name} from “${label}”`);
			show(image, master, 128);
		});
		return remove;
	}

	/** @returns {Promise<Master | null>} */
	load(id) {
		const loading = this.masters.get(id) ?? api.getMaster(id).catch(() => null);
		this.masters.set(id, loading);
		return loading;
	}
}
