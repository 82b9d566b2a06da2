/** Results that are grouped, folded and opened. */

import assert from "node:assert/strict";
import { test } from "node:test";

Object.assign(globalThis, { location: { search: "" }, history: { state: null } });

const { arrangementOf, deepest, moreText, unfold } = await import("../../../app/web/arranging.js");

/** @returns {any} */
const hit = (id, more = {}) => ({ master: { id }, distance: 0.1, ...more });

test("a search that arranges nothing has no further members", () => {
	assert.deepEqual(arrangementOf({ group: "", fold: false }, 60), {});
	assert.equal(deepest({ group: "", fold: false }), 10_000);
});

test("groups are as large as the service allows for so many of them", () => {
	const size = (k) => arrangementOf({ group: "product", fold: false }, k).group_size;
	assert.deepEqual([12, 60, 120, 500, 1000].map(size), [10, 10, 8, 2, 1]);
	assert.equal(deepest({ group: "product", fold: false }), 1000);
});

test("near-identical results are folded at a small distance", () => {
	assert.deepEqual(arrangementOf({ group: "", fold: true }, 60), { collapse_duplicates: 0.05 });
	assert.equal(deepest({ group: "", fold: true }), 1000);
});

test("opened results follow the one that stands for them", () => {
	const hits = [hit("a"), hit("b")];
	const shown = unfold(hits, new Map([["a", [hit("a1"), hit("a2")]]]));
	assert.deepEqual(
		shown.map(({ master, under }) => [master.id, under]),
		[
			["a", undefined],
			["a1", "a"],
			["a2", "a"],
			["b", undefined],
		],
	);
	assert.deepEqual(unfold(hits, new Map()), hits);
});

test("a result says how many it stands for", () => {
	const more = (length, value = "p") => ({ group: { value, more: Array(length).fill(hit("x")) } });
	assert.equal(moreText(hit("a")), "");
	assert.equal(moreText(hit("a", more(0))), "");
	assert.equal(moreText(hit("a", more(3))), "3 more");
	assert.equal(moreText(hit("a", more(9))), "9+ more");
	const duplicates = { count: 2, ids: ["b", "c"] };
	assert.equal(moreText(hit("a", { duplicates })), "2 near-identical");
	assert.equal(moreText(hit("a", { duplicates, ...more(1) })), "1 more, 2 near-identical");
});
