/** The values that results have, with their counts. A click on one narrows the search to it. */

import * as api from "./api.js";
import { button, el, find, isolated } from "./dom.js";
import { FIELDS, labelOf, valueText } from "./fields.js";
import { narrowFilter, parseFilter } from "./query.js";
import * as state from "./state.js";

const PATIENCE = 300; // milliseconds for which a search waits to know the paths
const MOST = 8; // paths; the service counts at 10
const FEW = 8; // more different numbers are a range rather than values
const BUILT_IN = ["capture.camera", "mime"];

/**
 * Returns the keys whose values tell results apart: not those that are different everywhere.
 * @param {{attributes: Summary[], fields: Summary[]}} summaries
 * @returns {Summary[]}
 */
export function countable({ attributes, fields }) {
	const own = new Set(attributes.map(({ key }) => key));
	const offered = fields.filter(({ key }) => BUILT_IN.includes(key) && !own.has(key));
	return [...attributes, ...offered].filter(isCountable).slice(0, MOST);
}

/** @param {Summary} summary */
function isCountable({ types, distinct, masters }) {
	if (distinct < 2 || types.includes("object")) return false;
	if (types.join() === "number") return distinct <= FEW;
	return distinct <= FEW || distinct < masters;
}

/**
 * Returns the JSON text of a filter after a click on a value, which adds it or takes it back.
 * @param {string} filter
 * @param {Summary} summary
 */
export function toggleValue(filter, { key, types }, value) {
	const choice = parseFilter(filter)?.get(key) ?? { values: [] };
	const others = choice.values.filter((other) => other !== value);
	const added = others.length === choice.values.length;
	const list = types.includes("list") && (types.length > 1 ? "mixed" : true);
	const values = added ? [...others, value] : others;
	return narrowFilter(filter, key, { ...choice, values, list });
}

export class Facets {
	/** @param {() => void} wanted called when counts are to be shown that no search has asked for */
	constructor(wanted) {
		this.wanted = wanted;
		this.collection = "";
		/** @type {Summary[] | null} */
		this.known = null; // null until they are loaded
		this.asked = false; // whether the last search asked for counts
		this.loading = Promise.resolve();
		this.late = false; // whether a search went without the paths
		this.box = find("#facets");
		this.box.open = matchMedia("(min-width: 40rem) and (min-height: 32rem)").matches;
		this.box.addEventListener("toggle", () => this.box.open && !this.asked && wanted());
	}

	/** Returns the paths to count at, none while nobody sees the counts. */
	async listPaths() {
		this.asked = this.box.open;
		if (!this.asked) return [];
		if (!this.known) {
			const timeout = new Promise((resolve) => setTimeout(resolve, PATIENCE));
			await Promise.race([this.loading, timeout]);
		}
		this.late = !this.known;
		return (this.known ?? []).map(({ key }) => key);
	}

	/** @param {State} now */
	show(now) {
		const searching = state.isSearch(now);
		this.offerGroups(now.group);
		if (!searching) this.draw(null);
		if (searching && now.collection !== this.collection) this.loading = this.load(now.collection);
	}

	/** Loads what the pictures of a collection have; without it, everything else works. */
	async load(collection = this.collection) {
		if (!collection) return;
		if (collection !== this.collection) this.known = null;
		this.collection = collection;
		const summaries = await api.listAttributes(collection).catch(() => null);
		if (collection !== this.collection || !summaries) return;
		this.known = countable(summaries);
		this.offerGroups(state.current().group);
		if (this.late) this.wanted();
		this.late = false;
	}

	offerGroups(chosen) {
		const select = find("#group");
		const known = (this.known ?? []).map(({ key }) => key);
		const keys = new Set([...known, chosen].filter(Boolean));
		const options = [...keys].map((key) =>
			el("option", { value: key, text: `Group by ${labelOf(key)}` }),
		);
		select.replaceChildren(el("option", { value: "", text: "Not grouped" }), ...options);
		select.value = chosen;
	}

	/** @param {FacetCounts | null | undefined} counts */
	draw(counts) {
		const rows = (counts?.paths ?? []).map((facet) => this.row(facet)).filter(Boolean);
		this.box.hidden = !this.known?.length || !state.isSearch(state.current());
		const scope = counts ? `of the nearest ${counts.masters}` : "";
		find("#facets .hint").textContent = scope;
		const none =
			counts && !rows.length && el("p", { class: "hint", text: "Nothing to narrow by." });
		find("#facet-rows").replaceChildren(...rows, ...(none ? [none] : []));
	}

	row({ path, values, others }) {
		const summary = this.known?.find(({ key }) => key === path);
		const filter = state.current().filter;
		const chosen = parseFilter(filter)?.get(path)?.values ?? [];
		if (!summary || (values.length < 2 && !chosen.length)) return null;
		const buttons = values.map(({ value, count }) => {
			const click = () =>
				state.update({ filter: toggleValue(state.current().filter, summary, value) });
			const text = valueText(FIELDS[path], value);
			const pressed = String(chosen.includes(value));
			const hint = el("span", { class: "hint", text: count });
			return button({ "aria-pressed": pressed, on: { click } }, null, [isolated(text), hint]);
		});
		const rest = others > 0 && el("span", { class: "hint", text: `${others} others` });
		const label = labelOf(path);
		const group = { role: "group", "aria-label": label };
		return el("div", { class: "facet" }, isolated(label), el("div", group, buttons, rest));
	}
}
