/** The filter form, made from the attributes of the collection, and the chips of what is chosen. */

import * as api from "./api.js";
import { formatValue } from "./attributes.js";
import { button, debounce, el, find, isolated } from "./dom.js";
import { count } from "./format.js";
import { parseFilter, serialiseFilter } from "./query.js";
import * as state from "./state.js";
import { showError } from "./toasts.js";

const LISTED = 8; // values of a key that are visible at first

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
			const without = (changes) => () =>
				this.apply(new Map([...(this.choices ?? []), [key, { ...choice, ...changes }]]));
			for (const value of choice.values) {
				const values = choice.values.filter((other) => other !== value);
				chips.push(chip(`${key}: ${formatValue(value)}`, without({ values })));
			}
			const { from, to } = choice;
			if (from !== undefined) chips.push(chip(`${key} ≥ ${from}`, without({ from: undefined })));
			if (to !== undefined) chips.push(chip(`${key} ≤ ${to}`, without({ to: undefined })));
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
			const found = await api.listAttributes(this.collection, this.stop.signal);
			this.draw(found.attributes, found.masters);
		} catch (problem) {
			if (problem.name !== "AbortError") showError(problem);
		}
	}

	draw(attributes, masters) {
		this.drawn = this.choices;
		let hint = "";
		if (!this.choices) {
			hint = "This form cannot show the current filter. Remove it to choose another one.";
		} else if (!attributes.length) {
			hint = "These pictures have no attributes yet. You can set attributes when you add pictures.";
		}
		const fields = hint
			? [el("p", { text: hint })]
			: attributes.map((attribute) => this.field(attribute, masters));
		this.panel.replaceChildren(...fields);
	}

	field(attribute, masters) {
		const { key, types, distinct } = attribute;
		const list = types.includes("list") && (types.length > 1 ? "mixed" : true);
		const all = attribute.masters === masters;
		const share = all ? "all pictures" : `${attribute.masters} of ${masters}`;
		const legend = el("legend", {}, isolated(key), el("span", { class: "hint", text: share }));
		const isRange = types.join() === "number" && distinct > LISTED;
		const inputs = isRange ? this.range(attribute) : this.values(attribute, list);
		return el("fieldset", {}, legend, inputs);
	}

	values({ key, values, distinct, types }, list) {
		const chosen = this.choices?.get(key)?.values ?? [];
		const unlisted = chosen.filter((value) => !values.some((known) => known.value === value));
		const options = [...unlisted.map((value) => ({ value })), ...values];
		const rows = options.map(({ value, masters }) => {
			const change = () => this.toggleValue(key, value, box.checked, list);
			const box = el("input", { type: "checkbox", on: { change } });
			box.checked = chosen.includes(value);
			const hint = el("span", { class: "hint", text: masters ?? "" });
			return el("label", { class: "check" }, box, isolated(formatValue(value)), hint);
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
			left > 0 && this.otherValue(key, isText, list, left),
		];
	}

	/** Returns an input for a value that is not among the most frequent. */
	otherValue(key, isText, list, left) {
		const label = { "aria-label": `Another value of ${key}` };
		const placeholder = `${count(left, "other value")}`;
		const input = el("input", { type: "text", ...label, placeholder });
		input.addEventListener("change", () => {
			const value = isText ? input.value.normalize() : Number(input.value);
			if (input.value) this.toggleValue(key, value, true, list);
			this.load();
		});
		return input;
	}

	range({ key, minimum, maximum }) {
		const choice = this.choices?.get(key);
		const input = (side, placeholder) => {
			const label = `${key}: ${side}`;
			const value = choice?.[side] ?? "";
			const number = { type: "number", step: "any", "aria-label": label, placeholder, value };
			const field = el("input", number);
			field.addEventListener("input", () => {
				this.set(key, { [side]: field.value === "" ? undefined : Number(field.value) });
				this.applySoon();
			});
			return field;
		};
		const to = el("span", { text: "to" });
		return el("div", { class: "range" }, input("from", minimum), to, input("to", maximum));
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
