/** What a camera wrote, as text. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
	apertureText,
	boxAround,
	exposureText,
	placeText,
	ratingText,
} from "../../../app/web/capturetext.js";

test("exposures are shown as photographers write them", () => {
	const shown = [1 / 8000, 0.004, 1 / 60, 0.5, 0.4, 0.8, 1, 2.5, 30].map(exposureText);
	assert.deepEqual(shown, [
		"1/8000 s",
		"1/250 s",
		"1/60 s",
		"1/2 s",
		"0.4 s",
		"0.8 s",
		"1 s",
		"2.5 s",
		"30 s",
	]);
});

test("apertures are rounded", () => {
	assert.deepEqual([2.8, 1.7799999, 11].map(apertureText), ["f/2.8", "f/1.78", "f/11"]);
});

test("a place names the hemispheres", () => {
	assert.equal(placeText({ latitude: 47.123456, longitude: 8.5 }), "47.12346° N, 8.5° E");
	assert.equal(
		placeText({ latitude: -33.5, longitude: -70.25, altitude: 520.4 }),
		"33.5° S, 70.25° W, 520 m",
	);
});

test("ratings are counted in stars", () => {
	assert.deepEqual([-1, 0, 1, 5].map(ratingText), ["Rejected", "Not rated", "1 star", "5 stars"]);
});

test("the box around a place is as wide as it is high", () => {
	assert.deepEqual(boxAround({ latitude: 0, longitude: 0 }), [-0.01, -0.01, 0.01, 0.01]);
	assert.deepEqual(boxAround({ latitude: 60, longitude: 8 }), [7.98, 59.99, 8.02, 60.01]);
});

test("a box crosses the antimeridian, and ends at the poles", () => {
	assert.deepEqual(boxAround({ latitude: 0, longitude: 180 }), [179.99, -0.01, -179.99, 0.01]);
	assert.deepEqual(boxAround({ latitude: -90, longitude: 10 }), [-180, -90, 180, -89.99]);
});
