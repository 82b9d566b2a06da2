/** Browses a collection in some order. Pages are loaded near the window and forgotten far away. */

import * as api from "./api.js";
import { card, cardKey, disposeCard } from "./cards.js";
import { announce, el, find } from "./dom.js";
import { count } from "./format.js";
import { Grid } from "./grid.js";
import { showError } from "./toasts.js";

const PAGE = 100; // masters
const KEPT = 80; // pages
const HEADINGS = {
	"text-not-understood": "No known words",
	"text-not-supported": "Words need an encoder",
	"invalid-text": "These words cannot be searched for",
	"space-not-found": "Not found",
};

export class Browse {
	constructor(actions) {
		this.actions = actions;
		/** @type {Map<number, Master[]>} */
		this.pages = new Map();
		this.requested = new Set(); // pages that are loading or up to date
		this.stop = new AbortController();
		this.settled = false;
		this.failed = false;
		this.collection = "";
		this.filter = "";
		this.sort = "";
		this.reload = false;
		/** @type {number | null} */
		this.total = null;
		this.grid = new Grid(find("#masters"), {
			render: (master, width) => card(master, width, actions),
			dispose: disposeCard,
			item: (index) => this.item(index),
			need: (first, end) => this.need(first, end),
			cellKey: (master) => cardKey(master),
			caption: 46,
		});
	}

	item(index) {
		return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
	}

	/** Shows a collection; with `reload`, even if it is on the screen already. */
	async show({ collection, filter, sort }, { reload = false } = {}) {
		const same = this.collection === collection && this.filter === filter && this.sort === sort;
		const other = this.failed || !same;
		if (!other && !reload) return;
		Object.assign(this, { collection, filter, sort, reload, failed: false, settled: false });
		this.stop.abort();
		const stop = new AbortController();
		this.stop = stop;
		this.requested.clear();
		if (other) this.pages.clear();
		const loading = this.load(0);
		if (other) {
			scrollTo({ top: 0, behavior: "instant" });
			this.showTotal(null);
			this.grid.expect(24);
		}
		await loading;
		if (stop !== this.stop) return;
		this.settled = !this.failed;
		this.grid.update(); // requests the pages near the window
	}

	/** Reloads if the collection has another number of masters than shown. */
	onCount(masters) {
		if (this.settled && !this.filter && this.total !== masters) this.show(this, { reload: true });
	}

	hide() {
		this.stop.abort();
		this.stop = new AbortController(); // so that a call of show that waits does nothing more
		this.settled = false;
		this.collection = "";
	}

	need(first, end) {
		const last = Math.floor((end - 1) / PAGE);
		for (let page = Math.floor(first / PAGE); page <= last; page++) this.load(page);
	}

	async load(page) {
		if (this.requested.has(page)) return;
		this.requested.add(page);
		const { collection, filter, sort, stop } = this;
		try {
			const query = { collection, filter, sort, limit: PAGE, offset: page * PAGE };
			const { masters, total } = await api.listMasters(query, stop.signal);
			this.pages.set(page, masters);
			this.forgetFarFrom(page);
			this.total = total;
			this.showTotal(total);
			this.grid.refresh(total);
			this.actions.shown({ reload: this.reload && !page });
		} catch (problem) {
			if (problem.name === "AbortError") return;
			this.requested.delete(page);
			if (page) return showError(problem); // the message of showTotal would be out of sight
			this.showTotal(null, problem);
			this.failed = true; // the next call of show loads again
			this.grid.reset(0);
		}
	}

	forgetFarFrom(page) {
		const distance = (other) => Math.abs(other - page);
		const farthest = [...this.pages.keys()].sort((a, b) => distance(b) - distance(a));
		for (const far of farthest.slice(0, Math.max(0, this.pages.size - KEPT))) {
			this.pages.delete(far);
			this.requested.delete(far);
		}
	}

	/** @param {number | null} total null while loading
	 * @param {any} [problem] */
	showTotal(total, problem) {
		const nothing = find("#nothing");
		nothing.hidden = !problem && total !== 0;
		const text = problem || total === null ? "" : count(total, "picture");
		find("#count").textContent = text;
		announce(problem ? problem.message : text);
		if (problem) {
			nothing.replaceChildren(...failure(problem, () => this.show(this, { reload: true })));
		} else if (total === 0) {
			const { noMatches, empty } = this.actions;
			nothing.replaceChildren(...(this.filter ? noMatches() : empty()));
		}
	}
}

/** Returns the elements that show an error, with a button to retry where that can help. */
export function failure(problem, retry) {
	const permanent = [400, 404, 413, 415, 422].includes(problem.status);
	const heading = problem.status === 404 ? "Not found" : "Something went wrong";
	// Where a message has backticks, they enclose commands and names.
	const parts = problem.message.split("`").map((text, i) => (i % 2 ? el("code", { text }) : text));
	return [
		el("h2", { text: HEADINGS[problem.code] ?? heading }),
		el("p", {}, ...parts),
		!permanent && el("button", { type: "button", text: "Retry", on: { click: retry } }),
	].filter(Boolean);
}
