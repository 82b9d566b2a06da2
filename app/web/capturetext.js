/** What a camera wrote into a file, as text: exposure, aperture, place, rating. */

import { count } from "./format.js";

const rounded = (number, digits) => Number(number.toFixed(digits));

/** @param {number} seconds */
export function exposureText(seconds) {
	const parts = Math.round(1 / seconds);
	const isFraction = parts > 1 && Math.abs(parts * seconds - 1) < 0.02;
	return isFraction ? `1/${parts} s` : `${rounded(seconds, 2)} s`;
}

export const apertureText = (aperture) => `f/${rounded(aperture, 2)}`;
export const lengthText = (millimetres) => `${rounded(millimetres, 1)} mm`;

export function ratingText(rating) {
	if (rating < 0) return "Rejected";
	return rating ? count(rating, "star") : "Not rated";
}

const angle = (degrees, sides) => `${rounded(Math.abs(degrees), 5)}° ${sides[degrees < 0 ? 1 : 0]}`;

/** @param {Place} place */
export function placeText({ latitude, longitude, altitude }) {
	const parts = [angle(latitude, "NS"), angle(longitude, "EW")];
	if (altitude !== undefined) parts.push(`${Math.round(altitude)} m`);
	return parts.join(", ");
}

/**
 * Returns west, south, east and north of a box around a place. A hundredth of a degree is about a
 * kilometre.
 * @param {Place} place
 */
export function boxAround({ latitude, longitude }, degrees = 0.01) {
	const south = Math.max(-90, latitude - degrees);
	const north = Math.min(90, latitude + degrees);
	const across = degrees / Math.cos((latitude * Math.PI) / 180);
	const wrapped = (angle) => angle - 360 * Math.round(angle / 360);
	const sides =
		across < 90 ? [wrapped(longitude - across), wrapped(longitude + across)] : [-180, 180];
	return [sides[0], south, sides[1], north].map((side) => rounded(side, 5));
}
