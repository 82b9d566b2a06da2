/** The inputs of the filter form, for each kind of field. Each tells its change to `set`. */

import { dayAfter, dayOf, lastDay } from "./dates.js";
import { el } from "./dom.js";
import { escapePattern, likeText } from "./fields.js";

/** @typedef {(changes: Partial<Choice>) => void} Set */

const orNothing = (text) => (text === "" ? undefined : text);

function input(type, label, value, change, properties = {}) {
	const field = el("input", { type, "aria-label": label, value: value ?? "", ...properties });
	field.addEventListener("input", () => change(field.value, field));
	return field;
}

/**
 * Two numbers. The service may count in another unit than people, such as bytes.
 * @param {Field} field
 * @param {Choice | undefined} choice
 * @param {Set} set
 * @param {Summary} summary
 */
export function rangeInputs(field, choice, set, { minimum, maximum }) {
	const [unit, size] = field.unit ?? [null, 1];
	const shown = (number, digits = 6) =>
		size === 1 || typeof number !== "number" ? number : Number((number / size).toPrecision(digits));
	const counted = (text) => (size === 1 ? Number(text) : Math.round(text * size));
	const limit = (side, placeholder) => {
		const label = `${field.label}: ${side}`;
		const change = (text) => set({ [side]: text === "" ? undefined : counted(text) });
		const properties = { step: "any", placeholder: shown(placeholder, 2) };
		return input("number", label, shown(choice?.[side]), change, properties);
	};
	return el(
		"div",
		{ class: "range" },
		limit("from", minimum),
		el("span", { text: "to" }),
		limit("to", maximum),
		unit && el("span", { class: "hint", text: unit }),
	);
}

/** Two days, both of which belong to the range. */
export function dayInputs({ label }, choice, set) {
	const from = (day) => set({ from: orNothing(day), exists: undefined });
	const until = (day) => set({ before: day === "" ? undefined : dayAfter(day), exists: undefined });
	const days = { min: "1800-01-01", max: "2199-12-31" };
	const whole = (change) => (day, field) => field.validity.valid && change(day);
	return el(
		"div",
		{ class: "days" },
		el("span", { text: "from" }),
		input("date", `${label}: from`, dayOf(choice?.from), whole(from), days),
		el("span", { text: "to" }),
		input("date", `${label}: to`, lastDay(choice?.before), whole(until), days),
	);
}

/** How a text begins, what it contains, or a pattern. */
export function textInputs({ label }, choice, set) {
	const contained = choice?.like === undefined ? "" : likeText(choice.like);
	let way = choice?.prefix === undefined ? "contains" : "begins with";
	if (contained === null) way = "matches";
	const text = choice?.prefix ?? contained ?? choice?.like;
	const apply = () => {
		const given = typed.value;
		const isStart = ways.value === "begins with";
		const pattern = ways.value === "matches" ? given : `%${escapePattern(given)}%`;
		hint.hidden = ways.value !== "matches";
		set({
			prefix: given && isStart ? given : undefined,
			like: given && !isStart ? pattern : undefined,
		});
	};
	const names = ["contains", "begins with", "matches"];
	const options = names.map((name) => el("option", { text: name }));
	const ways = el(
		"select",
		{ "aria-label": `How ${label} compares`, on: { change: apply } },
		options,
	);
	const typed = input("text", label, text, apply, { dir: "auto", maxlength: 200 });
	const hint = el("p", { class: "hint", text: "% is any text, _ any character." });
	ways.value = way;
	hint.hidden = way !== "matches";
	return el("div", { class: "text" }, ways, typed, hint);
}

const SIDES = ["West", "South", "East", "North"];

/** The four sides of a box on the globe. It applies once all are given. */
export function boxInputs(_field, choice, set) {
	const apply = () => {
		const given = sides.map((side) => side.value);
		const box = given.map(Number);
		const upsideDown = !given.includes("") && box[1] > box[3];
		sides[1].setCustomValidity(upsideDown ? "South must not be greater than north." : "");
		hint.textContent = upsideDown ? "South is greater than north." : HINT;
		if (given.every((text) => text === "")) set({ within: undefined });
		else if (!given.includes("") && sides.every((side) => side.validity.valid))
			set({ within: box });
	};
	const HINT = "Degrees; west and south are negative. Or open a picture and choose “Near here”.";
	const sides = SIDES.map((name, index) => {
		const most = index % 2 ? 90 : 180;
		const properties = { step: "any", min: -most, max: most, placeholder: name };
		return input("number", name, choice?.within?.[index], apply, properties);
	});
	const hint = el("p", { class: "hint", role: "status", text: HINT });
	return el("div", { class: "sides" }, ...sides, hint);
}
