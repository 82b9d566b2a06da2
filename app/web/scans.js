/** How far a scan for duplicates is, as text. */

import { count, duration, grouped } from "./format.js";

const OBSERVED = 30_000; // milliseconds over which the rate is measured

/** Measures how many pictures a scan compares in a second. */
export class Pace {
	constructor() {
		/** @type {{at: number, checked: number}[]} */
		this.seen = [];
	}

	/**
	 * Notes how many are compared, and returns the rate, or null while it is not known.
	 * @param {number} checked
	 * @param {number} at milliseconds
	 */
	note(checked, at) {
		const last = this.seen.at(-1);
		if (last && checked < last.checked) this.seen = []; // another scan
		this.seen.push({ at, checked });
		while (at - this.seen[0].at > OBSERVED && this.seen.length > 2) this.seen.shift();
		const [first] = this.seen;
		return at > first.at ? (1000 * (checked - first.checked)) / (at - first.at) : null;
	}
}

/**
 * @param {Scan} scan
 * @param {number | null} rate pictures in a second
 */
export function scanText({ state, checked, total, pairs, eta }, rate = null) {
	const found = count(pairs, "pair");
	if (state === "complete") return `${count(checked, "picture")} compared, ${found} found`;
	const parts = [
		`${grouped(checked)} of ${count(total, "picture")} compared, ${found} found so far`,
	];
	if (rate) parts.push(`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} a second`);
	if (eta !== null && eta !== undefined) parts.push(`about ${duration(eta)} left`);
	return parts.join(" · ");
}
