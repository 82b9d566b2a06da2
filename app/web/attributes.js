/** A form of attributes: rows of key and value. 12 is a number, true a boolean, [1, 2] a list. */

import { button, el } from "./dom.js";

export class AttributeForm {
	constructor(container) {
		this.rows = el("div", { class: "rows" });
		const add = button(
			{ class: "quiet", on: { click: () => this.add("", "").firstChild.focus() } },
			"plus",
			"Add attribute",
		);
		container.replaceChildren(this.rows, add);
	}

	/** @param {Record<string, unknown>} attributes */
	set(attributes) {
		this.rows.replaceChildren();
		for (const [key, value] of Object.entries(attributes)) {
			const row = this.add(key, formatValue(value));
			row.given = { key, value, shown: inputs(row) }; // inputs change newlines and spaces
		}
	}

	add(key, value) {
		const text = { type: "text", dir: "auto" };
		const keyLabel = { "aria-label": "Key", placeholder: "colour", maxlength: 64 };
		const valueLabel = `Value of ${key || "the new attribute"}`;
		const row = el(
			"div",
			{ class: "row" },
			el("input", { ...text, ...keyLabel, value: key }),
			el("input", { ...text, "aria-label": valueLabel, placeholder: "red", value }),
			button(
				{
					class: "quiet",
					"aria-label": `Remove ${key || "this attribute"}`,
					on: { click: () => row.remove() },
				},
				"close",
			),
		);
		this.rows.append(row);
		return row;
	}

	/** Returns the attributes. Raises Error if a key occurs twice. */
	get() {
		const rows = [...this.rows.children].map(readRow).filter(([key]) => key);
		const keys = rows.map(([key]) => key);
		const double = keys.find((key, index) => keys.indexOf(key) < index);
		if (double !== undefined) {
			const advice = "Use each key once. Enter several values as a list: [1, 2].";
			throw new Error(`The key “${double}” occurs twice. ${advice}`);
		}
		return Object.fromEntries(rows);
	}
}

const inputs = (row) => [row.children[0].value, row.children[1].value];

/** Reads a row. What the user did not edit keeps its original key and value. */
function readRow(row) {
	const [key, value] = inputs(row);
	const { given } = row;
	return [
		given?.shown[0] === key ? given.key : key.trim().normalize(),
		given?.shown[1] === value ? given.value : parseValue(value),
	];
}

/** Formats a value for an input. Text that would be parsed as another type gets quotes. */
export function formatValue(value) {
	if (typeof value !== "string") return JSON.stringify(value);
	return parseValue(value) === value ? value : JSON.stringify(value);
}

/**
 * Parses JSON; anything else is text.
 * @param {string} text
 */
export function parseValue(text) {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}
