/** The progress of a scan for duplicates. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace, scanText } from "../../../app/web/scans.js";

/** @returns {any} */
const scan = (more) => ({ state: "running", checked: 0, total: 0, pairs: 0, eta: null, ...more });

test("the rate is measured over the last half minute", () => {
	const pace = new Pace();
	assert.equal(pace.note(0, 0), null);
	assert.equal(pace.note(20, 2000), 10);
	pace.note(40, 4000);
	pace.note(40, 40_000);
	assert.equal(pace.note(100, 42_000), 30);
});

test("the speed of another scan is measured from its start", () => {
	const pace = new Pace();
	pace.note(100, 0);
	assert.equal(pace.note(5, 1000), null);
});

test("progress says how much, how fast and how long", () => {
	const some = scan({ checked: 1234, total: 5000, pairs: 1, eta: 90 });
	assert.equal(
		scanText(some, 84.6),
		"1\u202f234 of 5\u202f000 pictures compared, 1 pair found so far · 85 a second · about 2 min left",
	);
	assert.equal(scanText(scan({ total: 3 })), "0 of 3 pictures compared, 0 pairs found so far");
	assert.match(scanText(some, 0.52), / · 0\.5 a second · /);
	const all = scan({ state: "complete", checked: 5000, total: 5000, pairs: 12 });
	assert.equal(scanText(all, 3), "5\u202f000 pictures compared, 12 pairs found");
});
