/** The order of the pictures in the browse view: by a field, or by an attribute. */

import * as api from "./api.js";
import { el, find } from "./dom.js";
import { FIELDS, labelOf } from "./fields.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

const DEFAULT = "-created_at"; // the order of the service
const OFFERED = ["created_at", "name", "capture.time", "size"];
const NEWEST_FIRST = ["created_at", "capture.time"];
const ATTRIBUTE = "an attribute";

/**
 * Returns the key of an order, and whether it descends.
 * @param {string} sort
 */
export function parseSort(sort) {
	const descending = (sort || DEFAULT).startsWith("-");
	return { key: (sort || DEFAULT).slice(descending ? 1 : 0), descending };
}

/** Returns the order as the state keeps it: "" for the default. */
export function sortOf(key, descending) {
	const sort = descending ? `-${key}` : key;
	return sort === DEFAULT ? "" : sort;
}

export class Sorting {
	constructor() {
		this.collection = "";
		this.key = "";
		this.descending = true;
		/** @type {string[] | null} */
		this.keys = null; // of the attributes, once they are asked for
		this.field = find("#sort");
		this.attribute = find("#sort-attribute");
		this.order = find("#sort-order");
		this.field.replaceChildren(
			...OFFERED.map((key) => el("option", { value: key, text: labelOf(key) })),
			el("option", { value: ATTRIBUTE, text: "Attribute" }),
		);
		this.field.addEventListener("change", () => this.choose(this.field.value));
		this.attribute.addEventListener("change", () => {
			if (this.attribute.value) this.apply(this.attribute.value, false);
		});
		this.order.addEventListener("click", () => this.apply(this.key, !this.descending));
	}

	/** @param {State} now */
	show({ collection, sort }) {
		if (collection !== this.collection) this.keys = null;
		Object.assign(this, { collection, ...parseSort(sort) });
		const offered = OFFERED.includes(this.key);
		this.field.value = offered ? this.key : ATTRIBUTE;
		this.attribute.hidden = offered;
		if (!offered) this.offerAttributes();
		const [up, down] = FIELDS[this.key]?.orders ?? ["Ascending", "Descending"];
		find("span", this.order).textContent = this.descending ? down : up;
		this.order.classList.toggle("up", !this.descending);
	}

	choose(key) {
		if (key === ATTRIBUTE) this.askForAttribute();
		else this.apply(key, NEWEST_FIRST.includes(key));
	}

	apply(key, descending) {
		state.update({ sort: sortOf(key, descending) });
	}

	/** Lets the user choose an attribute; until then, the order stays. */
	async askForAttribute() {
		const keys = await this.loadKeys();
		if (this.field.value !== ATTRIBUTE) return;
		if (!keys?.length) {
			if (keys) showToast("These pictures have no attributes to sort by yet.");
			return this.show(state.current());
		}
		this.list(["", ...keys], "");
		this.attribute.hidden = false;
		this.attribute.focus();
	}

	/** Offers other attributes beside the one that the pictures are sorted by. */
	async offerAttributes() {
		const { key } = this;
		this.list([key, ...(this.keys ?? [])], key);
		if (!this.keys && (await this.loadKeys()) && key === this.key) this.offerAttributes();
	}

	/** Returns the keys of the collection's attributes, or null after an error. */
	async loadKeys() {
		const { collection } = this;
		try {
			const { attributes } = await api.listAttributes(collection);
			if (collection !== this.collection) return null;
			this.keys = attributes.map(({ key }) => key);
			return this.keys;
		} catch (problem) {
			showError(problem);
			return null;
		}
	}

	list(keys, chosen) {
		const options = [...new Set(keys)].map((key) =>
			el("option", { value: key, text: key || "Choose one" }),
		);
		this.attribute.replaceChildren(...options);
		this.attribute.value = chosen;
	}
}
