/** Numbers as text, file types, and thumbnail sizes. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { isImage } from "../../../app/web/files.js";
import { bytes, count, duration, percent } from "../../../app/web/format.js";
import { thumbnailSize } from "../../../app/web/images.js";

test("counts group their digits and know the plural", () => {
	assert.equal(count(0, "picture"), "0 pictures");
	assert.equal(count(1, "picture"), "1 picture");
	assert.equal(count(1234567, "picture"), "1\u202f234\u202f567 pictures");
});

test("sizes use decimal units and three digits", () => {
	assert.deepEqual([0, 999, 1000, 1_234_567, 5e12].map(bytes), [
		"0 B",
		"999 B",
		"1 KB",
		"1.23 MB",
		"5000 GB",
	]);
});

test("durations are rounded to a useful unit", () => {
	assert.deepEqual([0, 59, 61, 7200].map(duration), ["1 s", "59 s", "1 min", "2.0 h"]);
});

test("a small probability is not shown as zero", () => {
	assert.deepEqual([0, 0.009, 0.01, 0.876, 1].map(percent), [
		"<1 %",
		"<1 %",
		"1 %",
		"88 %",
		"100 %",
	]);
});

test("images are recognised by type, or by name where the type is unknown", () => {
	assert.ok(isImage({ type: "image/png", name: "x" }));
	for (const name of ["IMG_1.HEIC", "scan.tiff", "a.tif", "a.jxl", "DSC_1.NEF", "a.cr3", "a.dng"]) {
		assert.ok(isImage({ type: "", name }));
	}
	assert.ok(!isImage({ type: "text/plain", name: "letter.txt" }));
	assert.ok(!isImage({ type: "", name: "jpg" }));
});

test("thumbnails fill the pixels of the screen, up to the largest", () => {
	assert.equal(thumbnailSize(128, 1), 128);
	assert.equal(thumbnailSize(168, 2), 512);
	assert.equal(thumbnailSize(168, 3), 512);
	assert.equal(thumbnailSize(5000, 1), 1024);
});
