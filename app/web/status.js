/** The status line and the banner: polls the service and reports what is unavailable. */

import * as api from "./api.js";
import { el, find, icon } from "./dom.js";
import { count } from "./format.js";
import * as state from "./state.js";

const SLOW = 15_000; // milliseconds between polls
const FAST = 2_000;
const CHECK = "Check that it is running and reachable. No data is lost.";
const ADVICE = {
	metadata: `Pictures cannot be shown or added until the database responds. ${CHECK}`,
	objects: `Pictures cannot be shown or added until the object store responds. ${CHECK}`,
	vectors: "Searching is unavailable until the vector store responds. You can still add pictures.",
	model: "Searching is unavailable until the model is loaded. This page retries automatically.",
};
let timer;
let wasDown = false;
let listener = { recovered() {}, counted(_masters) {} };

/**
 * Starts to watch the service. `recovered()`: it responds again. `counted(masters)`: how many
 * pictures the collection has.
 */
export function watchStatus(callbacks) {
	listener = callbacks;
	document.addEventListener("visibilitychange", checkStatus);
	api.onUnreachable(checkStatus);
}

/** Polls now. */
export async function checkStatus() {
	clearTimeout(timer);
	if (document.hidden) return;
	const busy = await poll();
	clearTimeout(timer);
	timer = setTimeout(checkStatus, busy ? FAST : SLOW);
}

/** Returns whether to poll again soon. */
async function poll() {
	try {
		const ready = await api.getReadiness();
		let busy = !ready.ready;
		showProblems(ready);
		if (ready.checks.metadata === "ok") {
			const quiet = { quiet: true };
			const [listed, stats] = await Promise.all([api.listCollections(quiet), api.getStats(quiet)]);
			busy = showCounts(ready, listed.collections, stats) || busy;
		}
		if (ready.ready && wasDown) {
			wasDown = false;
			listener.recovered();
		}
		wasDown = !ready.ready;
		return busy;
	} catch (problem) {
		if (problem.status === 401 || problem.status === 403) {
			showLine("off", "API key required");
			if (wasDown) listener.recovered(); // which asks for the key
			wasDown = false;
			return false;
		}
		wasDown = true;
		showLine("down", "No response");
		showBanner(
			"The service is not responding.",
			"Check that it is running and that you are connected. This page retries automatically.",
		);
		return true;
	}
}

function showCounts(ready, collections, { pending, unread }) {
	const { collection } = state.current();
	const masters = collections.find(({ name }) => name === collection)?.masters ?? 0;
	listener.counted(masters);
	const parts = [count(masters, "picture")];
	if (pending) parts.push(`${count(pending, "embedding")} pending`);
	if (unread) parts.push(`metadata of ${count(unread, "picture")} not read yet`);
	showLine(ready.ready ? "well" : "down", parts.join(" · "), ready.model_version);
	return pending > 0;
}

function showProblems(ready) {
	const [store, reason] = Object.entries(ready.checks).find(([, check]) => check !== "ok") ?? [];
	if (!store) {
		find("#banner").hidden = true;
		return;
	}
	showLine("down", "Service problem", ready.model_version);
	showBanner(`${reason[0].toUpperCase()}${reason.slice(1)}.`, ADVICE[store] ?? "");
}

function showLine(health, text, model = "") {
	const label = { well: "Ready", down: "Service problem", off: "Locked" }[health];
	const dot = { class: `dot ${health}`, role: "img", "aria-label": label, title: label };
	find("#status").replaceChildren(
		el("span", dot),
		el("span", { text }),
		model && el("span", { class: "model", title: "Model version", text: model }),
	);
}

function showBanner(what, advice) {
	const banner = find("#banner");
	const text = `${what} ${advice}`;
	if (!banner.hidden && banner.dataset.text === text) return; // do not announce it again
	banner.dataset.text = text;
	banner.hidden = false;
	banner.replaceChildren(icon("alert"), el("p", {}, el("strong", { text: what }), " ", advice));
}
