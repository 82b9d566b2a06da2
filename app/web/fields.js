/** The built-in fields of pictures: their names, units, and the conditions on them as text. */

import { formatValue } from "./attributes.js";
import { apertureText, placeText, ratingText } from "./capturetext.js";
import { daysText } from "./dates.js";
import { bytes } from "./format.js";

export const TIME = "capture.time";
export const PLACE = "capture.gps";

const TYPES = { jxl: "JPEG XL", webp: "WebP" };

/** Returns the name of a media type; that of a camera raw file is image/x-maker-name. */
export function typeText(mime) {
	const name = mime.replace(/^image\/(x-.+-)?/, "");
	return TYPES[name] ?? name.toUpperCase();
}

const pixels = (number) => `${number} px`;

/**
 * The fields in the order of the form.
 * @type {Record<string, Field>}
 */
export const FIELDS = {
	name: { label: "Name", kind: "text", orders: ["A to Z", "Z to A"] },
	[TIME]: { label: "Taken", kind: "days", orders: ["Oldest first", "Newest first"] },
	"capture.camera": { label: "Camera", kind: "values" },
	"capture.lens": { label: "Lens", kind: "values" },
	"capture.iso": { label: "ISO", kind: "range" },
	"capture.aperture": { label: "Aperture", kind: "range", text: apertureText },
	"capture.keywords": { label: "Keywords", kind: "values" },
	"capture.rating": { label: "Rating", kind: "values", text: ratingText, falling: true },
	[PLACE]: { label: "Place", kind: "box" },
	mime: { label: "Type", kind: "values", text: typeText },
	width: { label: "Width", kind: "range", text: pixels, unit: ["px", 1] },
	height: { label: "Height", kind: "range", text: pixels, unit: ["px", 1] },
	size: {
		label: "Size",
		kind: "range",
		text: bytes,
		unit: ["MB", 1_000_000],
		orders: ["Smallest first", "Largest first"],
	},
	created_at: { label: "Uploaded", kind: "days", orders: ["Oldest first", "Newest first"] },
};

export const labelOf = (key) => FIELDS[key]?.label ?? key;

/**
 * Returns a value as text; what does not belong into the field stays as it is.
 * @param {Field | undefined} field
 */
export function valueText(field, value) {
	const type = field === FIELDS.mime ? "string" : "number";
	return field?.text && typeof value === type ? field.text(value) : formatValue(value);
}

export const escapePattern = (text) => text.replace(/[%_\\]/g, "\\$&");

/** Returns the text that a pattern searches for anywhere, or null for other patterns. */
export function likeText(pattern) {
	const [, escaped] = /^%((?:[^%_\\]|\\[%_\\])+)%$/.exec(pattern) ?? [];
	return escaped?.replace(/\\(.)/g, "$1") ?? null;
}

/** @param {unknown} box */
function boxText(box) {
	if (!Array.isArray(box) || box.length !== 4) return formatValue(box);
	const [west, south, east, north] = box.map(Number);
	const corners = [
		{ latitude: south, longitude: west },
		{ latitude: north, longitude: east },
	];
	return corners.map(placeText).join(" to ");
}

function patternText(pattern) {
	const text = likeText(pattern);
	return text === null ? `matches ${pattern}` : `contains ${text}`;
}

/**
 * Lists the conditions of a choice as text, each with the change that removes it.
 * @param {Choice} choice
 * @returns {{text: string, without: Partial<Choice>}[]}
 */
export function listConditions(key, choice) {
	const field = FIELDS[key];
	const label = labelOf(key);
	const { values, from, to, before, prefix, like, within, exists } = choice;
	const conditions = values.map((value) => ({
		text: `${label}: ${valueText(field, value)}`,
		without: { values: values.filter((other) => other !== value) },
	}));
	const add = (value, text, without) => value !== undefined && conditions.push({ text, without });
	const days = { from, before };
	if (field?.kind === "days") {
		const without = { from: undefined, before: undefined };
		add(from ?? before, `${label}: ${daysText(days)}`, without);
	} else {
		add(from, `${label} ≥ ${valueText(field, from)}`, { from: undefined });
		add(before, `${label} < ${valueText(field, before)}`, { before: undefined });
	}
	add(to, `${label} ≤ ${valueText(field, to)}`, { to: undefined });
	add(prefix, `${label} begins with ${prefix}`, { prefix: undefined });
	add(like, `${label} ${patternText(like)}`, { like: undefined });
	add(within, `${label}: ${boxText(within)}`, { within: undefined });
	add(exists, `${label}: unknown`, { exists: undefined });
	return conditions;
}
