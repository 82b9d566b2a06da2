/** A grid in which only cells near the window have elements, however many items there are. */

import { computeLayout, GAP, targetOf, visibleRange } from "./layout.js";

const PLACEHOLDER_DELAY = 200; // milliseconds
const FAST = 3; // windows in a tenth of a second: too fast to read

const rootStyle = () => getComputedStyle(document.documentElement);
const isMissing = (cell) => cell.querySelector('img[data-state="missing"]');

export class Grid {
	/**
	 * @param {HTMLElement} container an empty list
	 * @param {GridOptions} options
	 */
	constructor(container, options) {
		this.container = container;
		this.options = options;
		this.count = 0;
		/** @type {Map<number, any>} */
		this.cells = new Map();
		this.lastTop = 0;
		this.lastTime = 0;
		this.scheduled = 0;
		/** @type {number | undefined} */
		this.wanted = undefined; // the item to focus once it is loaded
		this.layout = this.measure();
		this.update = this.update.bind(this);
		this.watcher = new ResizeObserver(() => this.schedule());
		addEventListener("scroll", () => this.schedule(), { passive: true });
		addEventListener("resize", () => this.schedule());
		container.addEventListener("keydown", (event) => this.onKey(event));
		this.watcher.observe(container);
	}

	schedule() {
		this.scheduled ||= requestAnimationFrame(this.update);
	}

	/** Shows `count` placeholders if the items take noticeably long to load. */
	expect(count) {
		this.reset(0);
		this.expecting = setTimeout(() => this.reset(count), PLACEHOLDER_DELAY);
	}

	/** Replaces all items. */
	reset(count) {
		clearTimeout(this.expecting);
		this.dropWhere(() => true);
		this.count = count;
		this.update();
	}

	/** Renders what has changed: items were loaded, or their number is different. */
	refresh(count = this.count) {
		clearTimeout(this.expecting);
		this.count = count;
		const focused = this.focused();
		const { item, cellKey } = this.options;
		this.dropWhere((cell, index) => index >= count || cell.shown !== cellKey(item(index)));
		for (const cell of this.cells.values()) cell.setAttribute("aria-setsize", count);
		this.update();
		if (focused !== null) this.focusLink(Math.min(focused, count - 1));
		else if (document.activeElement === document.body && this.wanted !== undefined) {
			this.focusLink(this.wanted);
		}
	}

	/** Retries the pictures that could not be loaded. */
	retry() {
		this.dropWhere(isMissing);
		this.update();
	}

	/** Returns the index of the cell that has the focus, or null. */
	focused() {
		/** @type {any} */
		const cell = document.activeElement?.closest(".cell");
		return cell && this.container.contains(cell) ? Number(cell.dataset.index) : null;
	}

	focusLink(index) {
		const cell = this.cells.get(index);
		const link = cell?.querySelector("a, button");
		if (link && !cell.contains(document.activeElement)) link.focus({ preventScroll: true });
		this.wanted = link || index < 0 ? undefined : index;
	}

	measure() {
		const width = this.container.clientWidth;
		const scale = parseFloat(rootStyle().fontSize) / 16;
		const { caption } = this.options;
		return computeLayout({ width, count: this.count, scale, smallest: 168, caption });
	}

	update() {
		cancelAnimationFrame(this.scheduled);
		this.scheduled = 0;
		if (this.container.hidden || !this.container.clientWidth) return;
		const { side } = this.layout;
		this.layout = this.measure();
		this.container.style.height = `${this.layout.height}px`;
		if (this.layout.side !== side) this.dropWhere(() => true);
		const top = -this.container.getBoundingClientRect().top;
		const fast = this.isFast(top);
		const [first, end] = visibleRange(this.layout, top, innerHeight);
		const near = (index) => index >= first && index < end;
		this.dropWhere((cell, index) => !near(index) && !cell.contains(document.activeElement));
		if (end > first && !fast) this.options.need?.(first, end);
		for (let index = first; index < end; index++) {
			if (!this.cells.has(index)) this.place(index, fast);
		}
	}

	/** Returns whether the user scrolls too fast to read; renders placeholders until that ends. */
	isFast(top) {
		const now = performance.now();
		const speed = Math.abs(top - this.lastTop) / Math.max(100, now - this.lastTime);
		this.lastTop = top;
		this.lastTime = now;
		const fast = speed * 100 > FAST * innerHeight;
		clearTimeout(this.rest);
		if (fast) this.rest = setTimeout(() => this.renderSkipped(), 120);
		return fast;
	}

	renderSkipped() {
		this.dropWhere((cell) => cell.fast);
		this.update();
	}

	place(index, fast) {
		const { columns, across, side, step } = this.layout;
		const item = fast ? undefined : this.options.item(index);
		/** @type {any} */
		const cell = document.createElement("li");
		cell.className = "cell";
		cell.shown = this.options.cellKey(item);
		cell.fast = fast;
		cell.setAttribute("aria-setsize", this.count);
		cell.setAttribute("aria-posinset", index + 1);
		cell.dataset.index = index;
		cell.style.width = `${side}px`;
		cell.style.height = `${step - GAP}px`;
		const left = Math.round((index % columns) * across);
		cell.style.transform = `translate(${left}px, ${Math.floor(index / columns) * step}px)`;
		cell.append(this.options.render(item, side));
		this.container.insertBefore(cell, this.cellAfter(index));
		this.cells.set(index, cell);
	}

	/** Returns the cell that follows in the document: Tab and screen readers use that order. */
	cellAfter(index) {
		for (let after = index + 1; after < index + this.layout.columns * 3; after++) {
			if (this.cells.has(after)) return this.cells.get(after);
		}
		const later = (cell) => Number(cell.dataset.index) > index;
		return [...this.container.children].find(later) ?? null;
	}

	/** @param {(cell: any, index: number) => any} isUnwanted */
	dropWhere(isUnwanted) {
		for (const [index, cell] of [...this.cells]) {
			if (!isUnwanted(cell, index)) continue;
			this.cells.delete(index);
			this.options.dispose(cell);
			cell.remove();
		}
	}

	/** Moves from picture to picture with the arrow keys. */
	onKey(event) {
		const from = event.target.closest(".cell");
		if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
		const to = targetOf(event.key, Number(from.dataset.index), this.layout);
		if (to === null) return;
		event.preventDefault();
		this.focus(to);
	}

	/** Scrolls to an item and focuses it. */
	focus(index) {
		const { columns, step } = this.layout;
		const row = Math.floor(index / columns) * step;
		const place = this.container.getBoundingClientRect().top + row;
		if (place < parseFloat(rootStyle().scrollPaddingTop) || place + step > innerHeight) {
			scrollBy({ top: place - (innerHeight - step) / 2, behavior: "instant" });
		}
		this.lastTop = -this.container.getBoundingClientRect().top; // this jump is not fast scrolling
		this.update();
		this.focusLink(index);
		/** @type {any} */
		const active = document.activeElement;
		if (this.wanted === index) active?.blur(); // the previous one is far away
	}
}
