/** The pictures of a collection by the month in which they were taken: a bar for each. */

import * as api from "./api.js";
import { monthName, monthRange } from "./dates.js";
import { el, find } from "./dom.js";
import { TIME } from "./fields.js";
import { count } from "./format.js";
import { narrowFilter, parseFilter } from "./query.js";
import * as state from "./state.js";

const AGAIN = 5_000; // milliseconds between requests while files are still being read
const LOWEST = 6; // percent of the height of the highest bar

/** Returns the index to which a key leads among so many months, or null. */
export function monthFor(key, index, months) {
	const to = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: months - 1 }[key];
	return to >= 0 && to < months ? to : null;
}

export class Timeline {
	constructor() {
		this.collection = "";
		this.filter = "";
		/** @type {string | null} */
		this.wanted = null; // the filter without the time; null where there is no timeline
		this.loaded = ""; // what is on the screen
		/** @type {string | null} */
		this.dateless = null; // a collection in which no picture has a date
		this.section = find("#timeline");
		this.strip = find("#months");
		this.undated = find("#undated");
		this.unread = find("#unread");
		this.strip.addEventListener("keydown", (event) => this.onKey(event));
		this.strip.addEventListener("click", ({ target }) => {
			const bar = target.closest("button");
			if (bar) this.toggle(bar, monthRange(bar.dataset.month));
		});
		this.undated.addEventListener("click", () => this.toggle(this.undated, { exists: false }));
	}

	/** Shows what is chosen; `load` gets the months afterwards. */
	show({ collection, filter }) {
		const choices = parseFilter(filter);
		if (collection !== this.collection) this.clear();
		Object.assign(this, { collection, filter });
		this.wanted = choices && narrowFilter(filter, TIME);
		if (this.wanted === null) this.clear(); // nothing tells which months such a filter chooses
		const { from, before, exists } = choices?.get(TIME) ?? {};
		this.undated.setAttribute("aria-pressed", exists === false);
		for (const bar of this.bars) {
			const range = monthRange(bar.dataset.month);
			bar.setAttribute("aria-pressed", range.from === from && range.before === before);
		}
	}

	get bars() {
		return [...this.strip.querySelectorAll("button")];
	}

	clear() {
		this.loaded = "";
		this.section.hidden = true;
	}

	hide() {
		this.wanted = null;
		this.clear();
	}

	/** Loads the months, unless they are on the screen. Without a date there is no timeline. */
	async load({ reload = false } = {}) {
		const { collection, wanted } = this;
		const key = JSON.stringify([collection, wanted]);
		if (wanted === null) return;
		if (!reload && (key === this.loaded || collection === this.dateless)) return;
		this.loaded = key;
		clearTimeout(this.timer);
		const found = await api.listMonths(collection, wanted).catch(() => null);
		if (key !== this.loaded) return;
		if (!found) return this.clear();
		const { months, unread } = found;
		if (months.length || unread) this.dateless = null;
		else if (wanted === "") this.dateless = collection;
		this.draw(found);
	}

	/** @param {Months} found */
	draw({ months, undated, unread }) {
		const before = this.section.offsetHeight;
		const focused = find(":focus", this.strip)?.dataset.month;
		this.section.hidden = !months.length && !unread;
		this.drawBars(months);
		const unknown = undated + unread;
		this.undated.hidden = !unknown || !months.length;
		find("span", this.undated).textContent = unknown;
		const text = unread ? `Dates of ${count(unread, "picture")} are still being read.` : "";
		if (this.unread.textContent !== text) this.unread.textContent = text;
		this.show(this);
		if (focused) find(`[data-month="${focused}"]`, this.strip)?.focus({ preventScroll: true });
		if (this.section.offsetHeight !== before) dispatchEvent(new Event("resize"));
		if (unread) this.timer = setTimeout(() => this.load({ reload: true }), AGAIN);
	}

	/** Draws the newest month at the right end, where the timeline starts. */
	drawBars(months) {
		const { scrollLeft } = this.strip;
		const most = Math.max(...months.map(({ masters }) => masters));
		/** @type {Map<string, Element[]>} */
		const years = new Map();
		for (const { month, masters } of [...months].reverse()) {
			const year = month.slice(0, 4);
			years.set(year, [...(years.get(year) ?? []), barOf(month, masters, masters / most)]);
		}
		const first = !this.bars.length;
		this.strip.replaceChildren(
			...[...years].map(([year, bars]) =>
				el("div", { class: "year" }, el("div", {}, bars), el("span", { text: year })),
			),
		);
		const entry = this.bars.at(-1);
		if (entry) entry.tabIndex = 0; // the arrow keys lead to the others
		this.strip.scrollLeft = first ? this.strip.scrollWidth : scrollLeft;
	}

	toggle(button, range) {
		const chosen = button.getAttribute("aria-pressed") === "true" ? {} : range;
		state.update({ filter: narrowFilter(this.filter, TIME, chosen) });
	}

	onKey(event) {
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		const { bars } = this;
		const to = monthFor(event.key, bars.indexOf(event.target), bars.length);
		if (to === null) return;
		event.preventDefault();
		for (const bar of bars) bar.tabIndex = bar === bars[to] ? 0 : -1;
		bars[to].focus();
	}
}

function barOf(month, masters, share) {
	const name = `${monthName(month)} ${month.slice(0, 4)}: ${count(masters, "picture")}`;
	const bar = el("i");
	bar.style.height = `${Math.max(LOWEST, Math.round(100 * share))}%`;
	const properties = { type: "button", "aria-label": name, title: name, tabindex: -1 };
	const label = el("span", { text: monthName(month).slice(0, 3) });
	return el("button", { ...properties, "data-month": month }, el("span", {}, bar), label);
}
