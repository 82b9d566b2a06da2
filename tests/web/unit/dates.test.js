/** Days and months as text and as ranges of a filter. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
	dayOf,
	dayRange,
	daysText,
	lastDay,
	momentText,
	monthRange,
} from "../../../app/web/dates.js";

test("a month goes from its first moment to that of the next month", () => {
	assert.deepEqual(monthRange("2024-05"), { from: "2024-05-01", before: "2024-06-01" });
	assert.deepEqual(monthRange("1999-12"), { from: "1999-12-01", before: "2000-01-01" });
});

test("a day is the one of the place where the picture was taken", () => {
	assert.deepEqual(dayRange("2024-02-29T23:30:00"), { from: "2024-02-29", before: "2024-03-01" });
	assert.deepEqual(dayRange("2024-05-01T00:30:00.250+02:00"), {
		from: "2024-05-01T00:00+02:00",
		before: "2024-05-02T00:00+02:00",
	});
	assert.deepEqual(dayRange("2024-05-01T00:30:00Z"), {
		from: "2024-05-01T00:00Z",
		before: "2024-05-02T00:00Z",
	});
});

test("the first moment of a day is shown as the day", () => {
	assert.equal(dayOf("2024-05-01"), "2024-05-01");
	assert.equal(dayOf("2024-05-01T00:00+02:00"), "2024-05-01");
	assert.equal(dayOf("2024-05-01T00:30"), "");
	assert.equal(dayOf(undefined), "");
	assert.equal(dayOf("2024-13-01"), "");
	assert.equal(dayOf(["2024-05-01"]), "");
	assert.equal(dayOf(1714514400000), "");
});

test("a range that ends before a day includes the day before", () => {
	assert.equal(lastDay("2024-03-01"), "2024-02-29");
	assert.equal(lastDay("2024-05-02T00:00+02:00"), "2024-05-01");
	assert.equal(lastDay(undefined), "");
});

for (const [from, before, text] of [
	["2024-05-01", "2024-06-01", "May 2024"],
	["2024-12-01", "2025-01-01", "December 2024"],
	["2024-05-01", "2024-05-02", "1 May 2024"],
	["2024-05-01", "2024-06-05", "1 May 2024 to 4 June 2024"],
	["2024-05-01", undefined, "from 1 May 2024"],
	[undefined, "2024-05-02", "until 1 May 2024"],
	["2024-05-01T00:00+02:00", "2024-05-02T00:00+02:00", "1 May 2024 (UTC+02:00)"],
	["2024-05-01T10:30", undefined, "from 2024-05-01T10:30"],
	["2024-05-01T10:30", "2024-06-01", "2024-05-01T10:30 to 31 May 2024"],
	[undefined, "2024-06-01T10:30", "before 2024-06-01T10:30"],
]) {
	test(`from ${from} and before ${before} reads “${text}”`, () => {
		assert.equal(daysText({ from, before }), text);
	});
}

test("a moment is shown as the clock of the camera did", () => {
	assert.equal(momentText("2024-05-01T09:05:07+02:00"), "1 May 2024, 09:05:07 (UTC+02:00)");
	assert.equal(momentText("2024-05-01T09:05:07.250Z"), "1 May 2024, 09:05:07 (UTC)");
	assert.equal(momentText("2024-05-01T09:05:07"), "1 May 2024, 09:05:07");
});
