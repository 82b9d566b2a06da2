/** The search box: words, a picture, or both. Shows what the service can do with the words. */

import * as api from "./api.js";
import { debounce, el, find } from "./dom.js";
import { release, show, showFile } from "./images.js";
import { adviceOn, balance, needsEncoder, spaceForWords } from "./spaces.js";
import * as state from "./state.js";

const COMMAND = "lookalike spaces create words --encoder words.bundle";
const NO_PICTURE = { like: "", sample: null, box: "", mirror: false, turns: false };
const isTouch = () => matchMedia("(hover: none)").matches;

export class SearchBox {
	/** @param {() => void} repeat repeats a search by the same words */
	constructor(repeat) {
		this.repeat = repeat;
		/** @type {Space[]} */
		this.spaces = [];
		/** @type {State | null} */
		this.shown = null;
		/** @type {Sample | string | undefined} */
		this.picture = undefined; // the sample, or the ID of a master
		this.input = find("#words");
		this.chip = find("#picture");
		this.image = find("#picture img");
		this.listen();
	}

	listen() {
		find("#search").addEventListener("submit", (event) => this.submit(event));
		this.input.addEventListener("input", () => this.showClear());
		this.input.addEventListener("focus", () => this.loadSpaces({ quiet: true }));
		this.input.addEventListener("keydown", (event) => {
			if (event.key !== "Escape" || !this.input.value) return;
			event.preventDefault();
			this.clearWords();
		});
		find("#clear-words").addEventListener("click", () => this.clearWords());
		this.chip.addEventListener("click", () => {
			this.input.focus();
			state.update({ ...NO_PICTURE, text: this.words });
		});
		const weigh = debounce((weight) => state.update({ weight }, { replace: true }), 250);
		find("#weight").addEventListener("input", ({ target }) => {
			const weight = Number((1 - target.value).toFixed(2));
			this.showWeight(weight);
			weigh(weight);
		});
		find("#space").addEventListener("change", ({ target }) =>
			state.update({ space: target.value }, { replace: true }),
		);
	}

	/** What is in the box, searched for or not. */
	get words() {
		return this.input.value.trim();
	}

	submit(event) {
		event.preventDefault();
		const { words: text, shown } = this;
		if (isTouch()) this.input.blur(); // which hides the keyboard
		if (text !== shown?.text) state.update({ text, master: "" });
		else if (text) this.repeat();
	}

	clearWords() {
		this.input.value = "";
		this.showClear();
		this.input.focus();
		if (this.shown?.text) state.update({ text: "" });
	}

	/** @param {State} now */
	show(now) {
		const before = this.shown;
		this.shown = now;
		const ended = before && state.isSearch(before) && !state.isSearch(now);
		if (now.text !== before?.text || ended) this.input.value = now.text;
		this.showClear();
		this.chip.hidden = !state.hasPicture(now);
		if (this.chip.hidden) this.showPicture(null, null);
		find("#weight-row").hidden = this.chip.hidden || !now.text;
		find("#weight").value = 1 - now.weight;
		this.showWeight(now.weight);
		this.showSpaces();
	}

	/**
	 * Shows a file or a master beside the words.
	 * @param {Sample | null} sample
	 * @param {Master | null} master
	 */
	showPicture(sample, master) {
		const picture = sample ?? master?.id;
		if (picture === this.picture) return;
		release(this.image);
		this.picture = picture;
		if (sample) showFile(this.image, sample.file);
		else if (master) show(this.image, master, 128);
	}

	showClear() {
		find("#clear-words").hidden = !this.input.value;
	}

	showWeight(weight) {
		find("#weight").setAttribute("aria-valuetext", balance(weight));
	}

	/** Loads the list of spaces; without it, everything works but the choice of a space. */
	async loadSpaces(options = {}) {
		const found = await api.listSpaces(options).catch(() => null);
		if (!found) return;
		this.spaces = found.spaces;
		this.showSpaces();
	}

	showSpaces() {
		const chosen = this.shown?.space ?? "";
		const names = new Set(["", ...this.spaces.map(({ name }) => name), chosen]);
		const options = [...names].map((value) => el("option", { value, text: value || "Automatic" }));
		const select = find("#space");
		if (select.textContent !== options.map(({ text }) => text).join("")) {
			select.replaceChildren(...options);
		}
		select.value = chosen;
		find("#space-row").hidden = this.spaces.length < 2 && !chosen;
		const needed = needsEncoder(spaceForWords(this.spaces, chosen));
		this.input.placeholder = this.placeholder(needed);
		this.input.title = needed ? `Words need an encoder: ${COMMAND}` : "";
	}

	placeholder(needed) {
		if (needed) return "Words need an encoder";
		if (!this.chip.hidden) return "Add words";
		return isTouch() ? "Words or a picture" : "Search by words, or drop a picture";
	}

	/** Says how to search by more words, if the answer calls for it. */
	advise(answer) {
		const text = adviceOn(answer, spaceForWords(this.spaces, this.shown?.space ?? ""));
		const advice = find("#advice");
		if (advice.dataset.text === text) return; // do not announce it again
		advice.dataset.text = text;
		const command = el("code", { text: COMMAND });
		advice.replaceChildren(...(text ? [el("p", { text }), command] : []));
	}
}
