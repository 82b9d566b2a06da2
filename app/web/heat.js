/** Colours a picture where it is like another one. */

const SIDE = 512; // pixels of the longer side of a canvas
const COLOURS = [
	[0, 0, 60],
	[60, 0, 120],
	[200, 30, 60],
	[255, 140, 0],
	[255, 240, 60],
]; // from cold to warm, in equal steps
const STRONGEST = 0.7; // opacity of the warmest place

/**
 * Returns red, green, blue and opacity, 0 to 255.
 * @param {number} warmth 0 to 1
 */
export function colourOf(warmth) {
	const step = warmth * (COLOURS.length - 1);
	const index = Math.min(Math.floor(step), COLOURS.length - 2);
	const [from, to] = [COLOURS[index], COLOURS[index + 1]];
	const mixed = from.map((channel, i) => channel + (to[i] - channel) * (step - index));
	return [...mixed, 255 * STRONGEST * Math.sqrt(warmth)].map(Math.round);
}

/**
 * Returns the colours of a grid, row by row. The warmest place has its largest number, and one of 0
 * or less has no colour.
 * @param {number[][]} grid
 */
export function coloursOf(grid) {
	const numbers = grid.flat();
	const largest = Math.max(...numbers);
	return numbers.flatMap((each) => colourOf(largest > 0 ? Math.max(0, each) / largest : 0));
}

/**
 * Draws a grid smoothly onto a canvas with the proportions of its picture.
 * @param {HTMLCanvasElement} canvas
 * @param {ExplainedImage} image
 */
export function drawHeat(canvas, { width, height, region, grid }) {
	const scale = SIDE / Math.max(width, height);
	canvas.width = Math.max(1, Math.round(width * scale));
	canvas.height = Math.max(1, Math.round(height * scale));
	const cells = new OffscreenCanvas(grid[0].length, grid.length);
	const colours = new ImageData(new Uint8ClampedArray(coloursOf(grid)), grid[0].length);
	cells.getContext("2d")?.putImageData(colours, 0, 0);
	const [x, y, across, down] = region.map((side) => side * scale);
	const drawing = canvas.getContext("2d");
	if (!drawing) return;
	drawing.imageSmoothingQuality = "high";
	drawing.drawImage(cells, x, y, across, down);
}
