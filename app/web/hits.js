/** A search and its results, nearest first, narrowed by distance without another request. */

import * as api from "./api.js";
import { arrangementOf, deepest, Opened, unfold } from "./arranging.js";
import { failure } from "./browse.js";
import { card, cardKey, disposeCard } from "./cards.js";
import { announce, find } from "./dom.js";
import { count } from "./format.js";
import { Grid } from "./grid.js";
import { examplesOf, isRefined, markOf } from "./refine.js";
import { hasPicture } from "./state.js";
import { showError } from "./toasts.js";

/**
 * Returns the form fields of a search, except for a file.
 * @param {State} state
 */
function fieldsOf(state) {
	const { collection, filter, text, weight, space, like, box, mirror, turns } = state;
	const fields = { collection, filter, text, space };
	if (!hasPicture(state)) return fields;
	const picture = { master_id: like, box, mirror: mirror || "", turns: turns || "" };
	return { ...fields, ...picture, text_weight: text ? weight : "" };
}

/**
 * Returns the query of a refined search.
 * @param {State} state
 */
function queryOf(state) {
	const { collection, filter, space, mirror, turns } = state;
	return {
		examples: examplesOf(state),
		collection,
		filter: filter ? JSON.parse(filter) : null,
		space: space || null,
		mirror: mirror && hasPicture(state),
		turns: turns && hasPicture(state),
	};
}

export class Hits {
	/** @param {import("./facets.js").Facets} facets where the counts of values are shown */
	constructor(actions, facets) {
		this.actions = actions;
		this.facets = facets;
		this.depth = 0; // the greatest offset + k
		this.opened = new Opened(() => this.narrow());
		/** @type {Hit[]} */
		this.all = [];
		/** @type {Hit[]} */
		this.shown = [];
		/** @type {string | null} */
		this.searched = null; // the parameters of the last search
		this.retry = () => {};
		this.stop = new AbortController();
		this.complete = false;
		this.atMaximum = true; // whether the slider is at its right end
		this.filter = "";
		this.grid = new Grid(find("#hits"), {
			render: (hit, width) => card(hit?.master, width, this.cardActions(), hit),
			dispose: disposeCard,
			item: (index) => this.shown[index],
			cellKey: (hit) => cardKey(hit?.master, hit, this.marksOf(hit)),
			caption: 68,
		});
		this.slider = find("#distance");
		this.slider.addEventListener("input", () => {
			this.atMaximum = false;
			this.narrow();
		});
		find("#k").addEventListener("change", () => this.retry());
		find("#more").addEventListener("click", ({ currentTarget }) => {
			if (!currentTarget.ariaDisabled) this.more();
		});
	}

	get k() {
		return Number(find("#k").value);
	}

	/** Returns what a card can do: words cannot be compared with side by side. */
	cardActions() {
		return {
			...this.actions,
			compare: (this.sample || this.like) && this.actions.compare,
			isOpen: (hit) => this.opened.isOpen(hit),
			toggle: (hit) => this.toggle(hit),
		};
	}

	/** @param {Hit | undefined} hit */
	marksOf(hit) {
		return hit && markOf(hit.master.id) + (this.opened.isOpen(hit) ? " open" : "");
	}

	/** Shows the results that a hit stands for, or hides them. */
	async toggle(hit) {
		await this.opened.toggle(hit);
		const index = this.shown.findIndex(({ master }) => master.id === hit.master.id);
		find(`#hits [data-index="${index}"] .stands button`)?.focus({ preventScroll: true });
	}

	/**
	 * Searches, unless the results of the same search are shown.
	 * @param {State} state with words, a sample, or `like`
	 */
	async show(state) {
		const { filter, text, like, sample } = state;
		const fields = fieldsOf(state);
		const query = isRefined(state) ? queryOf(state) : null;
		const arrangement = arrangementOf(state, this.k);
		const search = JSON.stringify([fields, query, arrangement, this.k]);
		if (search === this.searched && sample === this.sample) return;
		this.retry = () => this.show(state);
		this.searched = search;
		find("#nothing").hidden = true;
		const other = sample !== this.sample || like !== this.like || text !== this.text;
		if (other) this.slider.value = this.slider.max;
		if (other || !this.all.length) {
			this.all = [];
			this.shown = [];
			find("#count").textContent = "";
			scrollTo({ top: 0, behavior: "instant" });
			this.grid.expect(12);
		}
		this.sample = sample;
		this.like = like;
		this.text = text;
		this.filter = filter;
		this.fields = fields;
		this.query = query;
		this.arrangement = arrangement;
		this.depth = deepest(state);
		this.grouped = state.group;
		this.readSlider();
		const hits = await this.fetch(0);
		if (!hits) return;
		this.all = hits;
		this.opened.clear();
		this.narrow({ fresh: true });
	}

	async more() {
		const hits = await this.fetch(this.all.length);
		if (!hits) return;
		const known = new Set(this.all.map((hit) => hit.master.id));
		this.readSlider();
		this.all = [...this.all, ...hits.filter((hit) => !known.has(hit.master.id))];
		this.narrow();
	}

	readSlider() {
		this.atMaximum = Number(this.slider.value) >= Number(this.slider.max);
	}

	/** Repeats the search. */
	reload() {
		this.searched = null;
		this.retry();
	}

	hide() {
		this.stop.abort();
		this.searched = null;
		this.sample = null;
		this.like = "";
		this.text = "";
		this.all = [];
		this.shown = [];
		announce("");
		this.actions.answered({});
	}

	/** Removes a deleted master. */
	without(id) {
		const head = this.all.find((hit) => hit.master.id === id);
		if (head?.group?.more.length || head?.duplicates?.count) return this.reload();
		this.opened.without(id);
		this.all = this.all.filter((hit) => hit.master.id !== id);
		this.narrow();
	}

	/** @returns {Promise<Hit[] | null>} null after an error or a newer search */
	async fetch(offset) {
		this.stop.abort();
		const stop = new AbortController();
		this.stop = stop;
		const main = find("#results");
		main.setAttribute("aria-busy", "true");
		find("#more").setAttribute("aria-disabled", true); // unlike `disabled`, this keeps the focus
		const k = Math.min(this.k, this.depth - offset);
		const facets = offset ? [] : await this.facets.listPaths();
		if (stop.signal.aborted) return null;
		try {
			const asked = this.query
				? { query: JSON.stringify({ ...this.query, ...this.arrangement, facets, k, offset }) }
				: { ...this.fields, ...this.arrangement, facets, k, offset };
			const answer = await api.search({ ...asked, sample: this.sample?.file }, stop.signal);
			const { hits } = answer;
			this.complete = hits.length < k || offset + k >= this.depth;
			if (!offset) this.facets.draw(answer.facets);
			main.dataset.tookMs = answer.took_ms;
			this.actions.answered(answer);
			return hits;
		} catch (problem) {
			if (problem.name === "AbortError") return null;
			if (offset)
				showError(problem); // the earlier results stay
			else this.fail(problem, this.retry);
			return null;
		} finally {
			if (stop === this.stop) {
				main.removeAttribute("aria-busy");
				find("#more").removeAttribute("aria-disabled");
			}
		}
	}

	fail(problem, retry = this.retry) {
		this.searched = null;
		this.all = [];
		this.shown = [];
		this.grid.reset(0);
		find("#nothing").hidden = false;
		find("#nothing").replaceChildren(...failure(problem, retry));
		find("#count").textContent = "";
		find("#more").hidden = true;
		announce(problem.message);
		this.actions.answered(problem);
	}

	/** Shows the hits up to the distance of the slider. `fresh`: the hits are of a new search. */
	narrow({ fresh = false } = {}) {
		if (this.atMaximum || fresh) this.fitSlider();
		const limit = Number(this.slider.value);
		this.readSlider();
		const near = this.atMaximum ? this.all : this.all.filter((hit) => hit.distance <= limit);
		this.shown = unfold(near, this.opened.hits);
		const range = this.atMaximum ? "any" : `up to ${limit.toFixed(2)}`;
		find("#distance-value").textContent = range;
		this.slider.setAttribute("aria-valuetext", this.atMaximum ? "any distance" : range);
		this.grid.refresh(this.shown.length);
		const all = count(this.all.length, this.grouped ? "group" : "result");
		const text = near.length < this.all.length ? `${near.length} of ${all}` : all;
		find("#count").textContent = text;
		announce(text);
		// Further results would be beyond the distance that the slider allows.
		find("#more").hidden = this.complete || !this.all.length || !this.atMaximum;
		find("#nothing").hidden = this.shown.length > 0;
		if (!this.shown.length) {
			const { noMatches, empty } = this.actions;
			find("#nothing").replaceChildren(...(this.filter ? noMatches() : empty()));
		}
		this.actions.shown();
	}

	/** Makes the slider go from the nearest hit, which always stays, to the farthest. */
	fitSlider() {
		const upwards = (distance) => Math.ceil(distance * 100) / 100;
		const farthest = upwards(this.all.at(-1)?.distance ?? 1);
		this.slider.max = Math.max(0.01, farthest);
		this.slider.min = Math.min(this.slider.max - 0.01, upwards(this.all[0]?.distance ?? 0));
		if (this.atMaximum) this.slider.value = this.slider.max;
	}
}
