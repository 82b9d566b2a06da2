/** The dialog that shows the search picture and a result side by side. */

import * as api from "./api.js";
import { el, find, isolated } from "./dom.js";
import { percent } from "./format.js";
import { drawHeat } from "./heat.js";
import { release, show } from "./images.js";
import * as state from "./state.js";
import { showError } from "./toasts.js";

export class Compare {
	/** @param {() => Hit[]} hits returns the hits on the screen, nearest first */
	constructor(hits) {
		this.hits = hits;
		/** @type {Hit | null} */
		this.hit = null;
		this.dialog = find("#compare");
		this.image = find("#compare-hit");
		this.explaining = find("#compare-explain");
		this.stop = new AbortController();
		this.explaining.addEventListener("change", () => this.explain());
		find("#compare-previous").addEventListener("click", () => this.step(-1));
		find("#compare-next").addEventListener("click", () => this.step(1));
		this.dialog.addEventListener("close", () => {
			release(this.image);
			find("#compare-sample").removeAttribute("src");
			this.stop.abort();
			this.showHeat(null);
		});
		this.dialog.addEventListener("keydown", (event) => {
			if (event.key === "ArrowLeft") this.step(-1);
			if (event.key === "ArrowRight") this.step(1);
		});
	}

	/** @param {Hit} hit */
	show(hit) {
		this.hit = hit;
		release(this.image);
		show(this.image, hit.master, 1024);
		this.image.alt = `Result: ${hit.master.name}`;
		const { src, alt, dataset } = find("#sample-image");
		Object.assign(find("#compare-sample"), { src, alt });
		find("#compare-sample").dataset.state = dataset.state;
		const index = this.index();
		const all = this.hits().length;
		find("#compare-title").textContent = `Result ${index + 1} of ${all}`;
		find("#compare-name").replaceChildren(isolated(hit.master.name || "Untitled"));
		// Unlike `disabled`, this keeps the focus.
		find("#compare-previous").setAttribute("aria-disabled", index <= 0);
		find("#compare-next").setAttribute("aria-disabled", index >= all - 1);
		const facts = { Distance: hit.distance.toFixed(4), Score: hit.score.toFixed(2) };
		if (hit.exact) facts["Same file"] = "yes";
		else if (hit.probability !== null) facts["Likely match"] = percent(hit.probability);
		find("#compare-facts").replaceChildren(
			...Object.entries(facts).map(([term, fact]) =>
				el("div", {}, el("dt", { text: term }), el("dd", { text: fact })),
			),
		);
		if (!this.dialog.open) this.dialog.showModal();
		this.explain();
	}

	/** Shows what makes the two pictures alike, if that is wanted. */
	async explain() {
		this.stop.abort();
		this.stop = new AbortController();
		this.showHeat(null);
		if (!this.explaining.checked || !this.hit) return;
		const { signal } = this.stop;
		const { sample, like, box, space } = state.current();
		const pair = { sample: sample?.file, sample_id: like, master_id: this.hit.master.id };
		try {
			const explanation = await api.explain({ ...pair, box, space }, signal);
			if (!signal.aborted) this.showHeat(explanation);
		} catch (problem) {
			if (signal.aborted) return;
			this.explaining.checked = false;
			showError(problem);
		}
	}

	/** @param {{sample: ExplainedImage, master: ExplainedImage} | null} explanation */
	showHeat(explanation) {
		for (const name of ["sample", "master"]) {
			const canvas = find(`#compare-heat-${name}`);
			canvas.hidden = !explanation;
			if (explanation) drawHeat(canvas, explanation[name]);
		}
	}

	hide() {
		this.dialog.close();
	}

	index() {
		return this.hits().findIndex((hit) => hit.master.id === this.hit?.master.id);
	}

	step(by) {
		const next = this.hits()[this.index() + by];
		if (next) this.show(next);
	}
}
