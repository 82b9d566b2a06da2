/** How results are arranged: one for each value, near-identical ones folded, and what is opened. */

import * as api from "./api.js";
import { find } from "./dom.js";
import * as state from "./state.js";

const FOLDED = 24; // near-identical masters that are loaded to be shown
const NEAR = 0.05; // distance of results that are nearly the same picture
const LARGEST_GROUP = 10; // results; a limit of the service, as is the next
const DEEPEST_ARRANGED = 1000;
const DEEPEST = 10_000;

/** @param {Pick<State, "group" | "fold">} state */
export const isArranged = ({ group, fold }) => Boolean(group || fold);

/**
 * Returns how deep a search can go: the limit of the service on offset + k.
 * @param {Pick<State, "group" | "fold">} state
 */
export const deepest = (state) => (isArranged(state) ? DEEPEST_ARRANGED : DEEPEST);

/**
 * Returns the members of a query that arrange its hits.
 * @param {Pick<State, "group" | "fold">} state
 */
export function arrangementOf({ group, fold }, k) {
	const size = Math.min(LARGEST_GROUP, Math.floor(DEEPEST_ARRANGED / k));
	return {
		...(group && { group_by: group, group_size: Math.max(1, size) }),
		...(fold && { collapse_duplicates: NEAR }),
	};
}

/**
 * Returns the hits with those that are opened after the one that stands for them.
 * @param {Hit[]} hits
 * @param {Map<string, Hit[]>} opened by the ID of the master that stands for them
 * @returns {Hit[]}
 */
export const unfold = (hits, opened) =>
	hits.flatMap((hit) => {
		const under = opened.get(hit.master.id) ?? [];
		return [hit, ...under.map((each) => ({ ...each, under: hit.master.id }))];
	});

/**
 * Returns how many results a hit stands for, as a text such as "3 more".
 * @param {Hit} hit
 */
export function moreText({ group, duplicates }) {
	const grouped = group?.more.length ?? 0;
	const near = duplicates?.count ?? 0;
	if (!grouped && !near) return "";
	const open = grouped >= LARGEST_GROUP - 1 && group?.value !== null ? "+" : "";
	const parts = [grouped && `${grouped}${open} more`, near && `${near} near-identical`];
	return parts.filter(Boolean).join(", ");
}

/** The results that are shown after the one that stands for them. */
export class Opened {
	/** @param {() => void} changed */
	constructor(changed) {
		this.changed = changed;
		/** @type {Map<string, Hit[]>} */
		this.hits = new Map();
	}

	/** @param {Hit} hit */
	isOpen({ master }) {
		return this.hits.has(master.id);
	}

	/** @param {Hit} hit */
	async toggle(hit) {
		const { id } = hit.master;
		if (!this.hits.delete(id)) {
			const folded = await loadFolded(hit);
			this.hits.set(id, [...(hit.group?.more ?? []), ...folded]);
		}
		this.changed();
	}

	clear() {
		this.hits.clear();
	}

	/** Removes a deleted master. */
	without(id) {
		for (const [key, hits] of this.hits) {
			this.hits.set(
				key,
				hits.filter(({ master }) => master.id !== id),
			);
		}
	}
}

/**
 * @param {Hit} hit
 * @returns {Promise<any[]>}
 */
async function loadFolded({ distance, duplicates }) {
	const ids = duplicates?.ids.slice(0, FOLDED) ?? [];
	const loaded = await Promise.all(ids.map((id) => api.getMaster(id).catch(() => null)));
	return loaded.filter(Boolean).map((master) => ({ master, distance, folded: true }));
}

/** The choice of what results are grouped by, and the switch that folds near-identical ones. */
export class Arranging {
	constructor() {
		this.box = find("#arranging");
		find("#group").addEventListener("change", ({ target }) =>
			state.update({ group: target.value }, { replace: true }),
		);
		find("#fold").addEventListener("click", () =>
			state.update({ fold: !state.current().fold }, { replace: true }),
		);
	}

	/** @param {State} now */
	show(now) {
		this.box.hidden = !state.isSearch(now);
		find("#fold").setAttribute("aria-pressed", now.fold);
	}
}
