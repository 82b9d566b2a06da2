/** The filter form and the JSON of the service. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { narrowFilter, parseFilter, serialiseFilter } from "../../../app/web/query.js";

const FILTERS = {
	"one value": { subject: { $in: ["coffee"] } },
	"several values": { subject: { $in: ["coffee", 7, true] } },
	"a range": { price: { $gte: 1, $lte: 2.5 } },
	"a half-open range": { price: { $gte: 0 } },
	"items of lists": { $or: [{ tags: { $contains: "a" } }, { tags: { $contains: "b" } }] },
	"lists and single values": { $or: [{ tags: { $contains: "a" } }, { tags: { $in: ["a"] } }] },
	"a range of days": { "capture.time": { $gte: "2024-05-01", $lt: "2024-06-01" } },
	"the start of a text": { name: { $prefix: "IMG_" } },
	"a part of a text": { name: { $like: "%cat%" } },
	"a box on the globe": { "capture.gps": { $within: [8.4, 47, 8.6, 47.2] } },
	"a key that is missing": { "capture.time": { $exists: false } },
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

test("a filter is narrowed by a value, which replaces those of its key", () => {
	const may = { from: "2024-05-01", before: "2024-06-01" };
	const june = { from: "2024-06-01", before: "2024-07-01" };
	const text = narrowFilter('{"subject":{"$in":["cat"]}}', "capture.time", may);
	const filter = {
		$and: [{ subject: { $in: ["cat"] } }, { "capture.time": { $gte: may.from, $lt: may.before } }],
	};
	assert.deepEqual(JSON.parse(text), filter);
	const other = parseFilter(narrowFilter(text, "capture.time", june));
	assert.deepEqual(other?.get("capture.time"), { values: [], ...june });
	assert.equal(narrowFilter(text, "capture.time"), '{"subject":{"$in":["cat"]}}');
	assert.equal(
		narrowFilter("", "capture.camera", { values: ["X"] }),
		'{"capture.camera":{"$in":["X"]}}',
	);
});

test("a filter that the form cannot show is narrowed too", () => {
	const text = narrowFilter('{"$not":{"a":1}}', "capture.camera", { values: ["X"] });
	assert.equal(text, '{"$and":[{"$not":{"a":1}},{"capture.camera":{"$in":["X"]}}]}');
	assert.equal(narrowFilter('{"$not":{"a":1}}', "a"), '{"$not":{"a":1}}');
	assert.equal(narrowFilter("no JSON", "a", { from: 1 }), '{"a":{"$gte":1}}');
});

for (const text of [
	"not JSON",
	'{"a":{"$exists":true}}',
	'{"a":{"$ne":1}}',
	'{"a":{"$lt":1,"$gte":0}}',
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
