/** The filter form and the JSON of the service. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFilter, serialiseFilter } from "../../../app/web/query.js";

const FILTERS = {
	"one value": { subject: { $in: ["coffee"] } },
	"several values": { subject: { $in: ["coffee", 7, true] } },
	"a range": { price: { $gte: 1, $lte: 2.5 } },
	"a half-open range": { price: { $gte: 0 } },
	"items of lists": { $or: [{ tags: { $contains: "a" } }, { tags: { $contains: "b" } }] },
	"lists and single values": { $or: [{ tags: { $contains: "a" } }, { tags: { $in: ["a"] } }] },
	"several keys": { $and: [{ subject: { $in: ["cat"] } }, { price: { $lte: 3 } }] },
};

for (const [name, filter] of Object.entries(FILTERS)) {
	test(`a filter on ${name} survives the form`, () => {
		const text = JSON.stringify(filter);
		const choices = parseFilter(text);
		assert.ok(choices);
		assert.equal(serialiseFilter(choices), text);
	});
}

test("an empty filter chooses nothing", () => {
	assert.deepEqual(parseFilter(""), new Map());
	assert.equal(serialiseFilter(new Map()), "");
	assert.equal(serialiseFilter(new Map([["subject", { values: [] }]])), "");
});

test("chosen values and limits are read from the filter", () => {
	const text = '{"$and":[{"subject":{"$in":["cat"]}},{"price":{"$gte":1,"$lte":2}}]}';
	const choices = parseFilter(text);
	assert.deepEqual(choices?.get("subject")?.values, ["cat"]);
	assert.deepEqual([choices?.get("price")?.from, choices?.get("price")?.to], [1, 2]);
});

for (const text of [
	"not JSON",
	"null",
	"7",
	'{"$not":{"subject":"coffee"}}',
	'{"price":{"$ne":1}}',
	'{"subject":null}',
	'{"$or":[{"a":1}]}',
	'{"$and":[{"$and":[]}]}',
]) {
	test(`the form does not claim to show ${text}`, () => {
		assert.equal(parseFilter(text), null);
	});
}
