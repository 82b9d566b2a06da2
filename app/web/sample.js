/** The search picture beside its results, and the box that is drawn on it. */

import { clamp, dragOf, formatBox, isTiny, moveBox, parseBox, resizeBox } from "./box.js";
import { debounce, find } from "./dom.js";
import { release, show, showFile } from "./images.js";

const REACH = 18; // pixels: the corner that is so near is dragged
const STEP = 0.02; // of the picture's side, for an arrow key

export class SamplePanel {
	/** @param {(box: string) => void} changed called with "x,y,width,height" in pixels, or "" */
	constructor(changed) {
		this.changed = changed;
		this.reportSoon = debounce(() => this.report(), 250);
		this.image = find("#sample-image");
		this.stage = find("#stage");
		this.frame = find("#box");
		/** @type {Box | null} */
		this.box = null;
		/** @type {Point | null} */
		this.size = null; // pixels of the upright picture
		/** @type {Sample | string | null | undefined} */
		this.shown = null; // the sample, or the ID of a master
		this.wanted = "";
		this.dragging = false;
		this.stage.addEventListener("pointerdown", (event) => this.onPointerDown(event));
		this.frame.addEventListener("keydown", (event) => this.onKey(event));
		this.image.addEventListener("load", () => this.onLoad());
		find("#choose-part").addEventListener("click", () => this.toggleBox());
	}

	/**
	 * Shows a file or a master.
	 * @param {Sample | null} sample
	 * @param {Master | null} master
	 * @param {string} box as in the URL
	 */
	show(sample, master, box) {
		const shown = sample ?? master?.id;
		if (shown !== this.shown) {
			this.clear();
			this.shown = shown;
			this.size = master ? [master.width, master.height] : null;
			this.image.alt = `Search picture: ${sample ? sample.file.name : master?.name}`;
			if (sample) showFile(this.image, sample.file);
			else if (master) show(this.image, master, 1024);
		}
		this.wanted = box;
		this.applyWanted();
		find("#choose-part").disabled = !this.size;
	}

	/** Shows that the picture is loading. */
	clear() {
		release(this.image);
		this.shown = null;
		this.size = null;
		this.box = null;
		this.image.alt = "";
		this.image.dataset.state = "loading";
		this.draw();
	}

	/**
	 * Says beside the picture what the service noticed about its file.
	 * @param {string[]} [warnings]
	 */
	warn(warnings = []) {
		const text = "This file is incomplete. The search used what is there.";
		find("#sample-note").textContent = warnings.includes("truncated") ? text : "";
	}

	showMissing() {
		this.image.dataset.state = "missing";
	}

	/** Takes the size of a file from the loaded image. */
	onLoad() {
		this.image.dataset.state = "shown";
		this.size ??= [this.image.naturalWidth, this.image.naturalHeight];
		find("#choose-part").disabled = false;
		this.applyWanted();
	}

	applyWanted() {
		if (!this.size || this.dragging) return;
		this.box = parseBox(this.wanted, this.size);
		this.draw();
	}

	draw() {
		this.frame.hidden = !this.box;
		find("#choose-part").textContent = this.box ? "Use whole picture" : "Select area";
		if (!this.box) return;
		const [left, top, right, bottom] = this.box.map((part) => part * 100);
		const [width, height] = [right - left, bottom - top];
		const sides = { left, top, width, height };
		for (const [side, part] of Object.entries(sides)) this.frame.style[side] = `${part}%`;
		const text = `${Math.round(width)} by ${Math.round(height)} percent of the picture`;
		this.frame.setAttribute("aria-valuetext", text);
	}

	report() {
		this.wanted = this.size ? formatBox(this.box, this.size) : "";
		this.changed(this.wanted);
	}

	toggleBox() {
		this.box = this.box ? null : [0.25, 0.25, 0.75, 0.75];
		this.draw();
		if (this.box) this.frame.focus();
		this.report();
	}

	onPointerDown(event) {
		if (event.button || !event.isPrimary || !this.size) return;
		event.preventDefault();
		const area = this.stage.getBoundingClientRect();
		/** @returns {Point} */
		const at = ({ clientX, clientY }) => [
			clamp((clientX - area.left) / area.width),
			clamp((clientY - area.top) / area.height),
		];
		const before = this.box;
		const drag = dragOf(before, at(event), [REACH / area.width, REACH / area.height]);
		const stop = new AbortController();
		const move = (moved) => {
			this.dragging = true;
			this.box = drag(at(moved));
			this.draw();
		};
		const end = ({ type }) => {
			stop.abort();
			const drawn = this.dragging;
			this.dragging = false;
			if (type === "pointercancel" || !drawn) this.box = before;
			else if (this.box && isTiny(this.box)) this.box = null;
			this.draw();
			if (drawn) this.report();
		};
		this.stage.setPointerCapture(event.pointerId);
		const { signal } = stop;
		this.stage.addEventListener("pointermove", move, { signal });
		this.stage.addEventListener("pointerup", end, { signal });
		this.stage.addEventListener("pointercancel", end, { signal });
	}

	/** Moves the box with the arrow keys, resizes it with Shift, removes it with Delete. */
	onKey(event) {
		const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
		if (this.box && steps[event.key]) {
			const [x, y] = steps[event.key];
			this.box = (event.shiftKey ? resizeBox : moveBox)(this.box, x * STEP, y * STEP);
		} else if (event.key === "Delete" || event.key === "Backspace") {
			this.box = null;
			find("#choose-part").focus();
		} else return;
		event.preventDefault();
		this.draw();
		this.reportSoon();
	}
}
