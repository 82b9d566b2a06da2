/** The filter form, made of what the pictures of the collection have, and the chips of its choices. */

import * as api from "./api.js";
import { button, debounce, el, find, isolated } from "./dom.js";
import { FIELDS, listConditions, PLACE, valueText } from "./fields.js";
import { count } from "./format.js";
import { boxInputs, dayInputs, rangeInputs, textInputs } from "./inputs.js";
import { parseFilter, serialiseFilter } from "./query.js";
import * as state from "./state.js";
import { showError } from "./toasts.js";

const LISTED = 8; // values of a key that are visible at first
const NO_ATTRIBUTES = "You can also filter by attributes that you set when you add pictures.";
const INPUTS = { text: textInputs, days: dayInputs, range: rangeInputs, box: boxInputs };

/**
 * Describes an attribute by the values that it has.
 * @param {Summary} summary
 * @returns {Field}
 */
function attributeField({ key, types, distinct }) {
	const isRange = types.join() === "number" && distinct > LISTED;
	return { label: key, kind: isRange ? "range" : "values" };
}

export class Filters {
	constructor() {
		/** @type {Map<string, Choice> | null} */
		this.choices = null; // null if the form cannot show the filter
		/** @type {Map<string, Choice> | null} */
		this.drawn = null;
		this.collection = "";
		this.filter = "";
		this.panel = find("#filters");
		this.toggle = find("#filter-toggle");
		this.toggle.addEventListener("click", () => this.open(this.panel.hidden));
		this.applySoon = debounce(() => this.apply(), 200);
		this.panel.addEventListener("keydown", (event) => {
			if (event.key !== "Escape") return;
			this.open(false);
			this.toggle.focus();
		});
	}

	apply(choices = this.choices) {
		state.update({ filter: choices ? serialiseFilter(choices) : "" });
	}

	async open(open) {
		this.panel.hidden = !open;
		this.toggle.setAttribute("aria-expanded", open);
		if (open) await this.load();
		dispatchEvent(new Event("resize"));
	}

	/** Shows the filter of the URL. */
	show({ collection, filter }) {
		const other = collection !== this.collection;
		Object.assign(this, { collection, filter, choices: parseFilter(filter) });
		this.showChips();
		if (other) this.panel.replaceChildren(); // do not offer attributes of another collection
		const drawn = this.drawn ? serialiseFilter(this.drawn) : null;
		if (!this.panel.hidden && (other || filter !== drawn)) this.load();
	}

	/** Reloads the attributes, unless the user is in the form. */
	reload() {
		if (!this.panel.hidden && !this.panel.contains(document.activeElement)) this.load();
	}

	showChips() {
		const chips = [];
		for (const [key, choice] of this.choices ?? []) {
			for (const { text, without } of listConditions(key, choice)) {
				const rest = { ...choice, ...without };
				const remove = () => this.apply(new Map([...(this.choices ?? []), [key, rest]]));
				chips.push(chip(text, remove));
			}
		}
		const clear = () => state.update({ filter: "" });
		if (!this.choices) chips.push(chip(this.filter, clear));
		if (chips.length > 1) {
			chips.push(button({ class: "quiet", on: { click: clear } }, null, "Clear filters"));
		}
		find("#chips").replaceChildren(...chips);
	}

	async load() {
		this.stop?.abort();
		this.stop = new AbortController();
		try {
			this.draw(await api.listAttributes(this.collection, this.stop.signal));
		} catch (problem) {
			if (problem.name !== "AbortError") showError(problem);
		}
	}

	draw({ attributes, fields, masters }) {
		this.drawn = this.choices;
		if (!this.choices) {
			const text = "This form cannot show the current filter. Remove it to choose another one.";
			return this.panel.replaceChildren(el("p", { text }));
		}
		const own = new Set(attributes.map(({ key }) => key)); // they come before built-in fields
		const known = new Map(fields.map((summary) => [summary.key, summary]));
		const place = known.get(`${PLACE}.latitude`);
		if (place) known.set(PLACE, { ...place, key: PLACE });
		const offered = Object.entries(FIELDS).filter(([key]) => known.has(key) && !own.has(key));
		const drawn = [
			...attributes.map((summary) => this.fieldset(attributeField(summary), summary, masters)),
			...offered.map(([key, field]) => this.fieldset(field, known.get(key), masters)),
		];
		if (!attributes.length) drawn.push(el("p", { class: "hint", text: NO_ATTRIBUTES }));
		this.replace(drawn);
	}

	/** Shows other inputs. The focus stays at the input of the same name, so that nobody types into nothing. */
	replace(drawn) {
		const { activeElement } = document;
		const name = this.panel.contains(activeElement) && activeElement?.getAttribute("aria-label");
		this.panel.replaceChildren(...drawn);
		if (!name) return;
		const inputs = [...this.panel.querySelectorAll("[aria-label]")];
		inputs.find((input) => input.getAttribute("aria-label") === name)?.focus();
	}

	/**
	 * @param {Field} field
	 * @param {Summary} summary
	 */
	fieldset(field, summary, masters) {
		const all = summary.masters === masters;
		const share = all ? "all pictures" : `${summary.masters} of ${masters}`;
		const hint = el("span", { class: "hint", text: share });
		const legend = el("legend", {}, isolated(field.label), hint);
		return el("fieldset", {}, legend, this.inputs(field, summary));
	}

	/**
	 * @param {Field} field
	 * @param {Summary} summary
	 */
	inputs(field, summary) {
		const { key, types } = summary;
		if (field.kind === "values") {
			const list = types.includes("list") && (types.length > 1 ? "mixed" : true);
			return this.values(field, summary, list);
		}
		const set = (changes) => {
			this.set(key, changes);
			this.applySoon();
		};
		return INPUTS[field.kind](field, this.choices?.get(key), set, summary);
	}

	values(field, { key, values, distinct, types }, list) {
		const chosen = this.choices?.get(key)?.values ?? [];
		const unlisted = chosen.filter((value) => !values.some((known) => known.value === value));
		const options = [...unlisted.map((value) => ({ value })), ...values];
		if (field.falling) options.sort((a, b) => Number(b.value) - Number(a.value));
		const rows = options.map(({ value, masters }) => {
			const change = () => this.toggleValue(key, value, box.checked, list);
			const box = el("input", { type: "checkbox", on: { change } });
			box.checked = chosen.includes(value);
			const hint = el("span", { class: "hint", text: masters ?? "" });
			return el("label", { class: "check" }, box, isolated(valueText(field, value)), hint);
		});
		const rest = rows.slice(LISTED + unlisted.length);
		for (const row of rest) row.hidden = !row.firstChild.checked;
		const showRest = () => {
			for (const row of rest) row.hidden = false;
			more.remove();
			rest[0].firstChild.focus();
		};
		const click = { class: "quiet", on: { click: showRest } };
		const more = button(click, null, `Show ${rest.length} more`);
		const left = distinct - values.length;
		const isText =
			types.includes("string") || values.some((known) => typeof known.value === "string");
		return [
			...rows,
			rest.some((row) => row.hidden) && more,
			left > 0 && this.otherValue(field, key, isText, list, left),
		];
	}

	/** Returns an input for a value that is not among the most frequent. */
	otherValue({ label }, key, isText, list, left) {
		const name = { "aria-label": `Another value of ${label}` };
		const placeholder = `${count(left, "other value")}`;
		const input = el("input", { type: "text", ...name, placeholder });
		input.addEventListener("change", () => {
			const value = isText ? input.value.normalize() : Number(input.value);
			if (input.value) this.toggleValue(key, value, true, list);
			this.load();
		});
		return input;
	}

	toggleValue(key, value, on, list) {
		const others = (this.choices?.get(key)?.values ?? []).filter((other) => other !== value);
		this.set(key, { values: on ? [...others, value] : others, list });
		this.apply();
	}

	/** @param {Partial<Choice>} changes */
	set(key, changes) {
		this.choices?.set(key, { values: [], ...this.choices.get(key), ...changes });
		this.drawn = this.choices;
	}
}

function chip(text, remove) {
	const label = { "aria-label": `Remove the filter ${text}` };
	return button({ class: "chip", ...label, on: { click: remove } }, "close", isolated(text));
}
