/** The values that results have, and the filter that a click on one makes. */

import assert from "node:assert/strict";
import { test } from "node:test";

Object.assign(globalThis, { location: { search: "" }, history: { state: null } });

const { countable, toggleValue } = await import("../../../app/web/facets.js");

/** @returns {any} */
const summary = (key, types, distinct, masters = 100) => ({ key, types, distinct, masters });

test("values that tell results apart are counted", () => {
	const attributes = [
		summary("subject", ["string"], 3),
		summary("sku", ["string"], 100),
		summary("price", ["number"], 40),
		summary("stars", ["number"], 5),
		summary("shop", ["string"], 1),
		summary("place", ["object"], 7),
		summary("tags", ["list"], 50),
	];
	const fields = [summary("mime", ["string"], 2), summary("width", ["number"], 3)];
	const keys = countable({ attributes, fields }).map(({ key }) => key);
	assert.deepEqual(keys, ["subject", "stars", "tags", "mime"]);
});

test("an attribute takes the place of the built-in field of its name", () => {
	const attributes = [summary("mime", ["string"], 3)];
	const fields = [summary("mime", ["string"], 2)];
	assert.deepEqual(countable({ attributes, fields }), attributes);
});

test("a click adds a value to the filter, and takes it back", () => {
	const subject = summary("subject", ["string"], 3);
	const one = toggleValue("", subject, "cat");
	assert.equal(one, '{"subject":{"$in":["cat"]}}');
	const two = toggleValue(one, subject, "dog");
	assert.equal(two, '{"subject":{"$in":["cat","dog"]}}');
	assert.equal(toggleValue(toggleValue(two, subject, "cat"), subject, "dog"), "");
});

test("values inside lists are filtered as such", () => {
	const text = toggleValue("", summary("tags", ["list"], 3), "sale");
	assert.equal(text, '{"$or":[{"tags":{"$contains":"sale"}}]}');
	const mixed = toggleValue("", summary("tags", ["list", "string"], 3), "sale");
	assert.equal(mixed, '{"$or":[{"tags":{"$contains":"sale"}},{"tags":{"$in":["sale"]}}]}');
});

test("a filter that the form cannot show stays", () => {
	const text = toggleValue('{"a":{"$ne":1}}', summary("b", ["string"], 3), "x");
	assert.equal(text, '{"$and":[{"a":{"$ne":1}},{"b":{"$in":["x"]}}]}');
});
