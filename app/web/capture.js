/** The capture metadata in the details of a picture, and filters by its values. */

import {
	apertureText,
	boxAround,
	exposureText,
	lengthText,
	placeText,
	ratingText,
} from "./capturetext.js";
import { dayRange, momentText } from "./dates.js";
import { button, el, isolated } from "./dom.js";
import { PLACE, TIME } from "./fields.js";
import { narrowFilter } from "./query.js";
import * as state from "./state.js";

const UNREAD = "This file has not been read for its date and camera yet.";

/** Closes the details and shows the pictures for which the same holds. */
function narrow(key, choice) {
	const { filter } = state.current();
	state.update({ master: "", filter: narrowFilter(filter, key, choice) });
}

/** Returns a button that finds the pictures with the same value. */
function same(label, key, choice, content) {
	const click = () => narrow(key, choice);
	const properties = { class: "link", title: label, on: { click } };
	return button(properties, null, content ?? label);
}

const sameValue = (key, value, list = false) =>
	same("Filter by this", key, { values: [value], list: list || undefined }, isolated(value));

/** @param {string} time */
const moment = (time) => [momentText(time), same("Same day", TIME, dayRange(time))];

/** @param {Place} place */
function whereabouts(place) {
	const { latitude, longitude } = place;
	const at = `mlat=${latitude}&mlon=${longitude}#map=15/${latitude}/${longitude}`;
	const href = `https://www.openstreetmap.org/?${at}`;
	const elsewhere = {
		target: "_blank",
		rel: "noopener noreferrer",
		title: "Opens openstreetmap.org",
	};
	return [
		placeText(place),
		same("Near here", PLACE, { within: boxAround(place) }),
		el("a", { href, ...elsewhere, text: "Show on a map" }),
	];
}

const KEYWORDS = "capture.keywords";
/**
 * How each member is shown, in this order.
 * @type {Record<string, [string, (value: any) => any]>}
 */
const FACTS = {
	time: ["Taken", moment],
	camera: ["Camera", (camera) => sameValue("capture.camera", camera)],
	lens: ["Lens", (lens) => sameValue("capture.lens", lens)],
	focal_length: ["Focal length", lengthText],
	exposure: ["Exposure", exposureText],
	aperture: ["Aperture", apertureText],
	iso: ["ISO", String],
	gps: ["Place", whereabouts],
	caption: ["Caption", isolated],
	keywords: ["Keywords", (keywords) => keywords.map((word) => sameValue(KEYWORDS, word, true))],
	creator: ["Creator", isolated],
	copyright: ["Copyright", isolated],
	software: ["Software", isolated],
	rating: ["Rating", ratingText],
};

/**
 * Returns the terms and facts of capture metadata; none for a file without any.
 * @param {Capture | null} capture
 */
export function factsOf(capture) {
	if (!capture) return [el("dt", { text: "Camera" }), el("dd", { text: UNREAD })];
	return Object.entries(FACTS)
		.filter(([member]) => capture[member] !== undefined && capture[member] !== null)
		.flatMap(([member, [term, show]]) => [
			el("dt", { text: term }),
			el("dd", { class: member }, show(capture[member])),
		]);
}
