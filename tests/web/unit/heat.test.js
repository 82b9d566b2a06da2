/** The colours of what makes two pictures alike. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { colourOf, coloursOf } from "../../../app/web/heat.js";

const placesOf = (colours) =>
	Array.from({ length: colours.length / 4 }, (_, i) => colours.slice(4 * i, 4 * i + 4));

test("warmth goes from no colour to bright yellow", () => {
	assert.equal(colourOf(0)[3], 0);
	assert.deepEqual(colourOf(1), [255, 240, 60, 179]);
	const opacities = [0, 0.1, 0.5, 0.9, 1].map((warmth) => colourOf(warmth)[3]);
	assert.deepEqual(
		opacities,
		opacities.toSorted((one, other) => one - other),
	);
});

test("the largest number of a grid is the warmest", () => {
	const places = placesOf(
		coloursOf([
			[0.1, -0.2],
			[0.05, 0],
		]),
	);
	assert.deepEqual(places[0], colourOf(1));
	assert.deepEqual(places[2], colourOf(0.5));
	assert.deepEqual([places[1][3], places[3][3]], [0, 0]);
});

test("a grid without warmth has no colour", () => {
	for (const grid of [[[0, 0]], [[-1, -0.5]]]) {
		assert.ok(placesOf(coloursOf(grid)).every(([, , , opacity]) => opacity === 0));
	}
});
