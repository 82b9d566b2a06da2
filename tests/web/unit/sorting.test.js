/** The order of the browse view in the URL. */

import assert from "node:assert/strict";
import { test } from "node:test";

Object.assign(globalThis, { document: { addEventListener() {}, querySelectorAll: () => [] } });
const { parseSort, sortOf } = await import("../../../app/web/sorting.js");

test("the newest pictures come first, which the URL does not say", () => {
	assert.deepEqual(parseSort(""), { key: "created_at", descending: true });
	assert.equal(sortOf("created_at", true), "");
	assert.equal(sortOf("created_at", false), "created_at");
});

for (const sort of ["name", "-name", "-capture.time", "price", "-camera.make"]) {
	test(`the order ${sort} survives the form`, () => {
		const { key, descending } = parseSort(sort);
		assert.equal(sortOf(key, descending), sort);
	});
}
