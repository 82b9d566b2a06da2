/** Geometry of the box on the search picture; all values are fractions of the picture's sides. */

export const SMALLEST = 0.04; // a smaller box is a slip of the hand

export const clamp = (part) => Math.min(1, Math.max(0, part));

/**
 * Returns the box between two opposite corners.
 * @param {Point} first
 * @param {Point} second
 * @returns {Box}
 */
export const boxBetween = ([a, b], [c, d]) => [
	Math.min(a, c),
	Math.min(b, d),
	Math.max(a, c),
	Math.max(b, d),
];

/**
 * Moves a box, but not beyond the edges of the picture.
 * @param {Box} box
 * @returns {Box}
 */
export function moveBox([left, top, right, bottom], x, y) {
	const dx = Math.min(1 - right, Math.max(-left, x));
	const dy = Math.min(1 - bottom, Math.max(-top, y));
	return [left + dx, top + dy, right + dx, bottom + dy];
}

/**
 * Moves the bottom right corner of a box.
 * @param {Box} box
 * @returns {Box}
 */
export const resizeBox = ([left, top, right, bottom], x, y) => [
	left,
	top,
	clamp(Math.max(left + SMALLEST, right + x)),
	clamp(Math.max(top + SMALLEST, bottom + y)),
];

/** @param {Box} box */
export const isTiny = ([left, top, right, bottom]) =>
	right - left < SMALLEST || bottom - top < SMALLEST;

/**
 * Returns what a drag from `start` does, as a function of the pointer's position: it resizes a
 * box at a corner, moves it from its inside, and draws a new box elsewhere.
 * @param {Box | null} box
 * @param {Point} start
 * @param {Point} reach how near to a corner the pointer must be
 * @returns {(to: Point) => Box}
 */
export function dragOf(box, [x, y], reach) {
	if (!box) return (to) => boxBetween(to, [x, y]);
	const [left, top, right, bottom] = box;
	for (const [a, c] of [
		[left, right],
		[right, left],
	]) {
		for (const [b, d] of [
			[top, bottom],
			[bottom, top],
		]) {
			const near = Math.abs(x - a) < reach[0] && Math.abs(y - b) < reach[1];
			if (near) return (to) => boxBetween(to, [c, d]);
		}
	}
	const inside = x > left && x < right && y > top && y < bottom;
	return inside ? ([a, b]) => moveBox(box, a - x, b - y) : (to) => boxBetween(to, [x, y]);
}

/**
 * Parses "x,y,width,height" in pixels of a picture. Returns null for no or an invalid box.
 * @returns {Box | null}
 */
export function parseBox(text, [wide, high]) {
	const [x, y, width, height] = text ? text.split(",").map(Number) : [];
	return width > 0 ? [x / wide, y / high, (x + width) / wide, (y + height) / high] : null;
}

/**
 * Formats a box as "x,y,width,height" in pixels of a picture; no box is "".
 * @param {Box | null} box
 */
export function formatBox(box, [wide, high]) {
	if (!box) return "";
	const [left, top, right, bottom] = box;
	const [x, y] = [Math.floor(left * wide), Math.floor(top * high)];
	const width = Math.min(wide - x, Math.round((right - left) * wide));
	const height = Math.min(high - y, Math.round((bottom - top) * high));
	return [x, y, Math.max(1, width), Math.max(1, height)].join(",");
}
