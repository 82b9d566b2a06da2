/** The keys that move along the timeline. */

import assert from "node:assert/strict";
import { test } from "node:test";

Object.assign(globalThis, { document: { addEventListener() {}, querySelectorAll: () => [] } });
const { monthFor } = await import("../../../app/web/timeline.js");

test("arrow keys move by a month, and Home and End to the first and the last", () => {
	assert.equal(monthFor("ArrowLeft", 3, 5), 2);
	assert.equal(monthFor("ArrowRight", 3, 5), 4);
	assert.equal(monthFor("Home", 3, 5), 0);
	assert.equal(monthFor("End", 1, 5), 4);
});

test("nothing lies beyond the ends, and other keys move nowhere", () => {
	assert.equal(monthFor("ArrowLeft", 0, 5), null);
	assert.equal(monthFor("ArrowRight", 4, 5), null);
	assert.equal(monthFor("a", 3, 5), null);
});
