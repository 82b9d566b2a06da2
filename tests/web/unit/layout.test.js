/** The arithmetic of the grid. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { computeLayout, GAP, targetOf, visibleRange } from "../../../app/web/layout.js";

const given = { width: 1200, count: 1000, scale: 1, smallest: 168, caption: 46 };

for (const width of [320, 390, 800, 1280, 3840]) {
	test(`the columns fill ${width} pixels and do not overlap`, () => {
		const { columns, side, across } = computeLayout({ ...given, width });
		const right = across * (columns - 1) + side;
		assert.ok(Math.abs(right - width) < 1e-9);
		assert.ok(across >= side + GAP);
		assert.ok(columns >= 2);
	});
}

test("a larger font makes larger cells", () => {
	const normal = computeLayout(given);
	const large = computeLayout({ ...given, scale: 2 });
	assert.ok(large.side > normal.side);
	assert.ok(large.step - large.side > normal.step - normal.side);
});

test("no items take no height", () => {
	const layout = computeLayout({ ...given, count: 0 });
	assert.equal(layout.height, 0);
	assert.deepEqual(visibleRange(layout, 0, 800), [0, 0]);
});

test("a grid is never taller than browsers can show", () => {
	const layout = computeLayout({ ...given, count: 100_000_000 });
	assert.ok(layout.height <= 15_000_000);
	assert.equal(layout.count, layout.rows * layout.columns);
});

test("few cells are near the window, wherever it is", () => {
	const layout = computeLayout({ ...given, count: 50_000 });
	for (const part of [0, 0.3, 0.9, 1]) {
		const [first, end] = visibleRange(layout, part * layout.height, 800);
		assert.ok(first < end && end - first < 100);
		assert.equal(first % layout.columns, 0);
		assert.ok(end <= 50_000);
	}
});

test("the visible range covers the window", () => {
	const layout = computeLayout(given);
	const top = 3000;
	const [first, end] = visibleRange(layout, top, 800);
	assert.ok(Math.floor(first / layout.columns) * layout.step <= top);
	assert.ok((end / layout.columns) * layout.step >= top + 800);
});

test("arrow keys, Home and End move inside the grid only", () => {
	const grid = { columns: 4, count: 10 };
	assert.equal(targetOf("ArrowRight", 2, grid), 3);
	assert.equal(targetOf("ArrowUp", 5, grid), 1);
	assert.equal(targetOf("ArrowDown", 5, grid), 9);
	assert.equal(targetOf("Home", 5, grid), 0);
	assert.equal(targetOf("End", 5, grid), 9);
	for (const [key, from] of [
		["ArrowLeft", 0],
		["ArrowUp", 3],
		["ArrowDown", 6],
		["ArrowRight", 9],
		["a", 5],
	]) {
		assert.equal(targetOf(key, Number(from), grid), null);
	}
	assert.equal(targetOf("End", 0, { columns: 2, count: 0 }), null);
});
