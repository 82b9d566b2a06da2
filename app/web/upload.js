/** The upload dialog: a queue of files with progress, duplicates, and failures with reasons. */

import * as api from "./api.js";
import { AttributeForm } from "./attributes.js";
import { followLink } from "./cards.js";
import { el, find, isolated, throttle } from "./dom.js";
import { chosenFiles, isImage } from "./files.js";
import { bytes, count, duration } from "./format.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

const CONCURRENT = 3;
// The retries take about a minute. In that time the service gives up an interrupted upload.
const TRIES = 6;
const LISTED = 200;

/** What is counted for one batch of uploads. */
class Batch {
	/** @type {UploadItem[]} */
	waiting = [];
	/** @type {Set<UploadItem>} */
	active = new Set();
	/** @type {UploadFailure[]} */
	failures = [];
	/** @type {{item: UploadItem, master: Master}[]} */
	duplicates = [];
	created = 0;
	incomplete = 0; // of the created
	skipped = 0;
	sentBytes = 0;
	allBytes = 0;
	all = 0;
	stop = new AbortController();
}

export class Uploads extends Batch {
	/** @param {{done: () => void, open: (master: Master) => void}} actions */
	constructor(actions) {
		super();
		this.actions = actions;
		this.dialog = find("#upload");
		this.form = new AttributeForm(find("#batch-attributes"));
		this.running = false;
		this.started = 0; // milliseconds; the rate counts from here
		this.finishedBefore = 0;
		this.bytesBefore = 0;
		find("#upload-open").addEventListener("click", () => this.open());
		for (const id of ["#files", "#folder"]) {
			find(id).addEventListener("change", ({ target }) => {
				this.add(chosenFiles(target));
				target.value = "";
			});
		}
		find("#upload-cancel").addEventListener("click", () => this.cancel());
		find("#upload-retry").addEventListener("click", () => this.retry());
		this.refreshSoon = throttle(() => actions.done(), 2000);
		addEventListener("beforeunload", (event) => {
			if (this.running) event.preventDefault(); // the browser asks whether to leave the page
		});
	}

	clear() {
		Object.assign(this, new Batch());
	}

	open() {
		if (!this.running) this.showCollection(state.current().collection);
		if (!this.running && !this.finished) this.draw();
		if (!this.dialog.open) this.dialog.showModal();
	}

	showCollection(collection) {
		find("#upload-title").replaceChildren("Add pictures to ", isolated(collection));
	}

	/** @param {FoundFile[]} found */
	add(found) {
		this.open();
		if (!this.running) this.clear();
		const { collection } = state.current();
		let common;
		try {
			common = this.form.get();
		} catch (problem) {
			return showError(problem);
		}
		this.showCollection(collection);
		const byFolder = find("#by-folder").checked;
		for (const { file, folder } of found) {
			if (!isImage(file)) {
				this.skipped += 1;
				continue;
			}
			const attributes = JSON.stringify(byFolder && folder ? { ...common, folder } : common);
			this.waiting.push({ file, sent: 0, tries: 0, fields: { collection, attributes } });
			this.all += 1;
			this.allBytes += file.size;
		}
		this.start();
	}

	start() {
		if (!this.running) {
			this.running = true;
			this.started = performance.now();
			this.finishedBefore = this.finished;
			this.bytesBefore = this.sentBytes;
			this.drawing = setInterval(() => this.draw(), 200);
		}
		while (this.active.size < CONCURRENT) {
			const item = this.waiting.shift();
			if (!item) break;
			this.send(item);
		}
		if (!this.active.size) this.end();
		this.draw();
	}

	get finished() {
		return this.created + this.duplicates.length + this.failures.length;
	}

	get bytesInFlight() {
		return [...this.active].reduce((sum, item) => sum + item.sent, 0);
	}

	/** @param {UploadItem} item */
	async send(item) {
		this.active.add(item);
		const { signal } = this.stop;
		try {
			const progress = (sent) => {
				item.sent = Math.min(sent, item.file.size);
			};
			const send = () => api.upload(item.file, item.fields, { signal, progress });
			const result = await this.withRetries(item, send);
			if (result.warnings?.includes("truncated")) this.incomplete += 1;
			if (result.created) this.created += 1;
			else this.duplicates.push({ item, master: result.master });
			this.refreshSoon();
		} catch (problem) {
			const cancelled = problem.name === "AbortError";
			const interrupted = "Cancelled during the upload. The picture may have been added.";
			const locked = problem.status === 401 || problem.status === 403;
			this.failures.push({
				item,
				reason: cancelled ? interrupted : problem.message,
				cancelled,
				retryable: cancelled || problem.temporary || locked || problem.status >= 500,
			});
			if (locked) this.cancel(); // the user has not entered a key
		}
		this.sentBytes += item.file.size;
		this.active.delete(item);
		this.start();
	}

	/** Retries while the service is busy or unreachable. */
	async withRetries(item, send) {
		for (;;) {
			try {
				item.note = "";
				return await send();
			} catch (problem) {
				const last = ++item.tries % TRIES === 0;
				if (!problem.temporary || last || this.stop.signal.aborted) throw problem;
				item.sent = 0;
				item.note = "waiting for the service";
				await this.pause(Math.max(problem.retryAfter, 2 ** (item.tries % TRIES)));
			}
		}
	}

	pause(seconds) {
		return new Promise((resolve, reject) => {
			const timer = setTimeout(resolve, seconds * 1000);
			this.stop.signal.addEventListener("abort", () => {
				clearTimeout(timer);
				reject(new DOMException("cancelled", "AbortError"));
			});
		});
	}

	cancel() {
		for (const item of this.waiting.splice(0)) {
			this.failures.push({ item, reason: "Cancelled.", cancelled: true, retryable: true });
			this.sentBytes += item.file.size;
		}
		this.stop.abort();
		this.stop = new AbortController();
		this.draw();
	}

	retry() {
		const retryable = this.failures.filter((failure) => failure.retryable);
		this.failures = this.failures.filter((failure) => !failure.retryable);
		for (const { item } of retryable) {
			this.sentBytes -= item.file.size;
			this.waiting.push(Object.assign(item, { sent: 0, tries: 0 }));
		}
		this.start();
	}

	end() {
		clearInterval(this.drawing);
		if (!this.running) return;
		this.running = false;
		this.actions.done();
		if (!this.dialog.open) {
			showToast(this.outcome(), { action: { label: "Show", run: () => this.open() } });
		}
	}

	outcome() {
		const parts = [`${count(this.created, "picture")} uploaded`];
		if (this.incomplete) parts.push(`${this.incomplete} of them incomplete`);
		const cancelled = this.failures.filter((failure) => failure.cancelled).length;
		const failed = this.failures.length - cancelled;
		if (this.duplicates.length) parts.push(`${this.duplicates.length} already in the collection`);
		if (failed) parts.push(`${failed} failed`);
		if (cancelled) parts.push(`${cancelled} cancelled`);
		if (this.skipped) parts.push(`${count(this.skipped, "file")} skipped (not a picture)`);
		return `${parts.join(", ")}.`;
	}

	draw() {
		const begun = this.all > 0 || this.skipped > 0;
		find("#upload-progress").hidden = !begun;
		find("#upload-cancel").hidden = !this.running;
		const retryable = this.failures.some((failure) => failure.retryable);
		find("#upload-retry").hidden = this.running || !retryable;
		if (!begun) return;
		const sent = this.sentBytes + this.bytesInFlight;
		const share = Math.floor((100 * sent) / Math.max(1, this.allBytes));
		const label = this.running ? `Uploading, ${share} %` : "Add pictures";
		find("#upload-open span").textContent = label;
		const status = find("#upload-status");
		status.setAttribute("aria-live", this.running ? "off" : "polite"); // announces the outcome only
		status.textContent = this.running ? this.progress(sent) : this.outcome();
		find("#upload-bar").max = Math.max(1, this.allBytes);
		find("#upload-bar").value = this.running ? sent : this.allBytes;
		find("#upload-active").replaceChildren(...[...this.active].map(activeRow));
		this.list("#upload-failed", "Failed", this.failures, ({ item, reason }) => [
			isolated(item.file.name),
			el("span", { class: "reason", text: reason }),
		]);
		const title = "Already in the collection";
		this.list("#upload-duplicates", title, this.duplicates, ({ item, master }) => {
			const click = (event) => followLink(event, () => this.show(master));
			const link = { href: `/?master=${master.id}`, text: `as ${master.name}`, on: { click } };
			return [isolated(item.file.name), el("a", link)];
		});
	}

	show(master) {
		this.dialog.close();
		this.actions.open(master);
	}

	progress(sent) {
		const seconds = (performance.now() - this.started) / 1000;
		const done = this.finished - this.finishedBefore;
		const text = `${this.finished} of ${count(this.all, "picture")}`;
		if (seconds < 1 || !done) return `${text}…`;
		const rate = Math.max(1, sent - this.bytesBefore) / seconds;
		const left = duration((this.allBytes - sent) / rate);
		return `${text} · ${(done / seconds).toFixed(1)} per second · ${left} left`;
	}

	list(selector, title, rows, content) {
		const box = find(selector);
		box.hidden = !rows.length;
		if (box.dataset.count === String(rows.length) && rows.length) return;
		box.dataset.count = rows.length;
		const items = rows.slice(0, LISTED).map((row) => el("li", {}, content(row)));
		const more = rows.length - LISTED;
		if (more > 0) items.push(el("li", { text: `and ${more} more` }));
		box.replaceChildren(el("summary", { text: `${title}: ${rows.length}` }), el("ul", {}, items));
	}
}

/** @param {UploadItem} item */
function activeRow({ file, sent, note }) {
	const max = Math.max(1, file.size);
	const bar = el("progress", { max, value: sent, "aria-label": file.name });
	const text = note || (sent >= file.size ? "processing" : bytes(file.size));
	return el("li", {}, isolated(file.name), bar, el("span", { class: "hint", text }));
}
