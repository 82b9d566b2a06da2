/** The state of the scan for duplicates: starts and ends it, and shows its progress. */

import * as api from "./api.js";
import { find } from "./dom.js";
import { Pace, scanText } from "./scans.js";
import { showError } from "./toasts.js";

const FAST = 1_500; // milliseconds between polls
const SLOW = 15_000;
const NONE = "Pictures of this collection have not been compared with each other yet.";

export class ScanPanel {
	/** `begun()` and `ended()`: the user did that. `found()`: there are more pairs than before. */
	constructor({ begun, ended, found }) {
		this.begun = begun;
		this.ended = ended;
		this.found = found;
		/** @type {Scan | null} */
		this.scan = null;
		this.pairs = 0; // that the groups on the screen were made of
		this.pace = new Pace();
		this.where = { collection: "", against: "" };
		this.timer = 0;
		find("#scan-start").addEventListener("click", () => this.start());
		find("#scan-end").addEventListener("click", () => this.askToEnd(true));
		find("#scan-end-no").addEventListener("click", () => this.askToEnd(false));
		find("#scan-end-yes").addEventListener("click", () => this.end());
	}

	get isRunning() {
		return this.scan?.state === "running";
	}

	/**
	 * Shows a scan, or that there is none, and polls it.
	 * @param {{collection: string, against: string}} where
	 * @param {Scan | null} scan
	 */
	show({ collection, against }, scan) {
		this.where = { collection, against };
		this.pairs = scan?.pairs ?? 0;
		find("#dup-new").hidden = true;
		find("#scan").hidden = false;
		this.draw(scan);
		this.askToEnd(false);
	}

	/** @param {Scan | null} scan */
	draw(scan) {
		this.scan = scan;
		const rate = scan ? this.pace.note(scan.checked, performance.now()) : null;
		find("#scan-text").textContent = scan ? scanText(scan, rate) : NONE;
		find("#scan-start").hidden = Boolean(scan);
		find("#dup-tools").hidden = !scan;
		const bar = find("#scan-bar");
		bar.hidden = !this.isRunning;
		bar.value = scan?.total ? scan.checked / scan.total : 0;
		clearTimeout(this.timer);
		if (scan) this.timer = setTimeout(() => this.poll(), this.isRunning ? FAST : SLOW);
	}

	hide() {
		this.stop();
		find("#scan").hidden = true;
	}

	stop() {
		clearTimeout(this.timer);
		this.scan = null;
	}

	async poll() {
		const { where } = this;
		const values = { against: where.against, limit: 1 };
		const page = await api.listDuplicates(where.collection, values).catch(() => null);
		if (where !== this.where || !this.scan) return;
		const wasRunning = this.isRunning;
		this.draw(page?.scan ?? this.scan);
		if (page && page.scan.pairs !== this.pairs) {
			this.pairs = page.scan.pairs;
			this.found();
		} else if (wasRunning && !this.isRunning) this.found();
	}

	async start() {
		const { collection, against } = this.where;
		try {
			this.draw(await api.startScan(collection, against));
			this.begun();
		} catch (problem) {
			showError(problem);
		}
	}

	askToEnd(asking) {
		find("#scan-end").hidden = asking || !this.scan;
		find("#scan-ending").hidden = !asking;
		if (asking) find("#scan-end-no").focus();
	}

	async end() {
		const { collection, against } = this.where;
		try {
			await api.stopScan(collection, against);
			this.ended();
		} catch (problem) {
			showError(problem);
		}
	}
}
