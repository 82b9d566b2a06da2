/** The built-in fields of a filter, and the chips of what is chosen. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
	escapePattern,
	FIELDS,
	likeText,
	listConditions,
	typeText,
	valueText,
} from "../../../app/web/fields.js";

const texts = (key, choice) =>
	listConditions(key, { values: [], ...choice }).map(({ text }) => text);

test("media types are called by their usual names", () => {
	const types = ["image/heic", "image/webp", "image/jxl", "image/x-sony-arw", "image/x-adobe-dng"];
	assert.deepEqual(types.map(typeText), ["HEIC", "WebP", "JPEG XL", "ARW", "DNG"]);
});

test("attributes are called by their keys", () => {
	assert.deepEqual(texts("subject", { values: ["cat", 7] }), ["subject: cat", "subject: 7"]);
	assert.deepEqual(texts("price", { from: 1, to: 2.5 }), ["price ≥ 1", "price ≤ 2.5"]);
	assert.deepEqual(texts("code", { prefix: "A" }), ["code begins with A"]);
});

test("built-in fields have names, units and readable values", () => {
	assert.deepEqual(texts("capture.camera", { values: ["Canon EOS R5"] }), ["Camera: Canon EOS R5"]);
	assert.deepEqual(texts("mime", { values: ["image/jpeg"] }), ["Type: JPEG"]);
	assert.deepEqual(texts("size", { from: 2_500_000 }), ["Size ≥ 2.5 MB"]);
	assert.deepEqual(texts("width", { to: 1000 }), ["Width ≤ 1000 px"]);
	assert.deepEqual(texts("capture.aperture", { to: 2.8 }), ["Aperture ≤ f/2.8"]);
	assert.deepEqual(texts("capture.rating", { values: [4, -1] }), [
		"Rating: 4 stars",
		"Rating: Rejected",
	]);
	assert.deepEqual(texts("capture.time", { from: "2024-05-01", before: "2024-06-01" }), [
		"Taken: May 2024",
	]);
	assert.deepEqual(texts("created_at", { from: "2024-05-01" }), ["Uploaded: from 1 May 2024"]);
	assert.deepEqual(texts("capture.time", { exists: false }), ["Taken: unknown"]);
	assert.deepEqual(texts("capture.gps", { within: [-70.3, -33.5, 8.6, 47] }), [
		"Place: 33.5° S, 70.3° W to 47° N, 8.6° E",
	]);
});

test("patterns are shown as what they find", () => {
	assert.deepEqual(texts("name", { prefix: "IMG_" }), ["Name begins with IMG_"]);
	assert.deepEqual(texts("name", { like: "%50\\%%" }), ["Name contains 50%"]);
	assert.deepEqual(texts("name", { like: "a%b" }), ["Name matches a%b"]);
	assert.equal(escapePattern("100%_\\"), "100\\%\\_\\\\");
	assert.equal(likeText(`%${escapePattern("100%_\\")}%`), "100%_\\");
	for (const pattern of ["%a_b%", "%a%b%", "a", "%", "%a\\%"]) {
		assert.equal(likeText(pattern), null, pattern);
	}
});

test("each chip removes its own condition", () => {
	const choice = { values: ["a", "b"], from: 1, to: 2 };
	const removed = listConditions("k", choice).map(({ without }) => without);
	assert.deepEqual(removed, [
		{ values: ["b"] },
		{ values: ["a"] },
		{ from: undefined },
		{ to: undefined },
	]);
	const [days] = listConditions("capture.time", {
		values: [],
		from: "2024-05-01",
		before: "2024-06-01",
	});
	assert.deepEqual(days.without, { from: undefined, before: undefined });
});

test("values of fields that nobody knows are shown as they are", () => {
	assert.equal(valueText(FIELDS.mime, "image/svg+xml"), "SVG+XML");
	assert.equal(valueText(FIELDS.mime, 7), "7");
	assert.equal(valueText(FIELDS["capture.rating"], "good"), "good");
	assert.equal(valueText(undefined, "image/png"), "image/png");
	assert.deepEqual(texts("size", { from: "big" }), ["Size ≥ big"]);
	assert.deepEqual(texts("capture.gps", { within: "here" }), ["Place: here"]);
	assert.deepEqual(texts("capture.time", { from: 5 }), ["Taken: from 5"]);
});
