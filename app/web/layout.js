/** Arithmetic of the grid: columns, rows, and which cells are near the window. */

export const GAP = 12; // pixels
const AHEAD = 0.75; // windows above and below that have elements too
const TALLEST = 15_000_000; // pixels; browsers cut off taller elements

/**
 * Computes the grid of `count` squares with captions, in pixels. `scale`: the font size / 16.
 * @param {{width: number, count: number, scale: number, smallest: number, caption: number}} given
 */
export function computeLayout({ width, count, scale, smallest, caption }) {
	const least = (width < 480 * scale ? Math.min(140, smallest) : smallest) * scale;
	const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
	const side = Math.floor((width - GAP * (columns - 1)) / columns);
	const step = side + caption * scale + GAP;
	const rows = Math.min(Math.ceil(count / columns), Math.floor(TALLEST / step));
	return {
		columns,
		side,
		across: (width - side) / (columns - 1), // the last column ends at the right edge
		step,
		rows,
		count: Math.min(count, rows * columns),
		height: Math.max(0, rows * step - GAP),
	};
}

/**
 * Returns the half-open range of items near the window. `top`: how far the grid has scrolled.
 * @returns {[number, number]}
 */
export function visibleRange({ columns, step, count }, top, windowHeight) {
	const margin = windowHeight * AHEAD;
	const first = Math.max(0, Math.floor((top - margin) / step)) * columns;
	const last = Math.ceil((top + windowHeight + margin) / step) * columns;
	return [first, Math.min(count, last)];
}

/**
 * Returns the item a key leads to, or null.
 */
export function targetOf(key, from, { columns, count }) {
	const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
	let to = from + steps[key];
	if (key === "Home") to = 0;
	if (key === "End") to = count - 1;
	return to >= 0 && to < count ? to : null;
}
