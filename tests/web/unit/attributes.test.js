/** Attribute values as text in an input. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { formatValue, parseValue } from "../../../app/web/attributes.js";

const VALUES = ["red", "12", "true", "null", '"quoted"', "[1, 2]", "", 12, -0.5, true, ["a", 1]];

for (const value of VALUES) {
	test(`${JSON.stringify(value)} keeps its type in an input`, () => {
		assert.deepEqual(parseValue(formatValue(value)), value);
	});
}

test("plain text is shown without quotes", () => {
	assert.equal(formatValue("dark red"), "dark red");
	assert.equal(formatValue("12"), '"12"');
	assert.equal(formatValue(12), "12");
});

test("text that is not JSON stays as it was typed", () => {
	assert.equal(parseValue("{broken"), "{broken");
	assert.equal(parseValue(" 3 m"), " 3 m");
});
