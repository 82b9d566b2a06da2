/** The geometry of the search area. */

import assert from "node:assert/strict";
import { test } from "node:test";
import * as boxes from "../../../app/web/box.js";

/** @type {Box} */
const BOX = [0.25, 0.25, 0.75, 0.75];
/** @type {Point} */
const REACH = [0.05, 0.05];

test("a box is drawn in any direction", () => {
	const drag = boxes.dragOf(null, [0.6, 0.7], REACH);
	assert.deepEqual(drag([0.2, 0.9]), [0.2, 0.7, 0.6, 0.9]);
});

for (const [corner, opposite] of [
	[
		[0.25, 0.25],
		[0.75, 0.75],
	],
	[
		[0.75, 0.25],
		[0.25, 0.75],
	],
	[
		[0.25, 0.75],
		[0.75, 0.25],
	],
	[
		[0.75, 0.75],
		[0.25, 0.25],
	],
]) {
	test(`a drag at ${corner} keeps the opposite corner`, () => {
		const [x, y] = corner;
		const drag = boxes.dragOf(BOX, [x + 0.01, y - 0.01], REACH);
		const [left, top, right, bottom] = drag([0.5, 0.4]);
		assert.ok(opposite[0] === left || opposite[0] === right);
		assert.ok(opposite[1] === top || opposite[1] === bottom);
	});
}

test("a drag inside moves the box and stops at the edges", () => {
	const drag = boxes.dragOf(BOX, [0.5, 0.5], REACH);
	assert.deepEqual(
		drag([0.4, 0.6]).map((side) => Number(side.toFixed(6))),
		[0.15, 0.35, 0.65, 0.85],
	);
	assert.deepEqual(drag([9, -9]), [0.5, 0, 1, 0.5]);
});

test("a drag outside draws a new box", () => {
	assert.deepEqual(boxes.dragOf(BOX, [0.1, 0.1], REACH)([0, 0]), [0, 0, 0.1, 0.1]);
});

test("resizing keeps the box inside the picture and visible", () => {
	assert.deepEqual(boxes.resizeBox(BOX, 9, 9), [0.25, 0.25, 1, 1]);
	const [left, top, right, bottom] = boxes.resizeBox(BOX, -9, -9);
	assert.ok(right > left && bottom > top);
	assert.ok(boxes.isTiny([0.1, 0.1, 0.5, 0.12]));
	assert.ok(!boxes.isTiny(BOX));
});

test("pixels in the URL and fractions on the page are the same box", () => {
	assert.deepEqual(boxes.parseBox("80,60,160,120", [320, 240]), BOX);
	assert.equal(boxes.formatBox(BOX, [320, 240]), "80,60,160,120");
	assert.equal(boxes.formatBox([0.999, 0.999, 1, 1], [10, 10]), "9,9,1,1");
	assert.equal(boxes.formatBox(null, [320, 240]), "");
});

for (const text of ["", "nonsense", "1,2,0,4", "1,2"]) {
	test(`“${text}” is no box`, () => {
		assert.equal(boxes.parseBox(text, [320, 240]), null);
	});
}
