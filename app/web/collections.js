/** The dialog of collections: switches, creates and deletes them. */

import * as api from "./api.js";
import { button, el, find, isolated } from "./dom.js";
import { count } from "./format.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

export class Collections {
	/** `changed()`: a collection was deleted. */
	constructor({ changed }) {
		this.changed = changed;
		this.dialog = find("#collections");
		find("#collection").addEventListener("click", () => this.open());
		find("#new-collection").addEventListener("submit", (event) => this.create(event));
	}

	show({ collection }) {
		find("#collection-name").textContent = collection;
	}

	async open() {
		find("#collection-list").replaceChildren(); // the previous list may be out of date
		this.dialog.showModal();
		await this.load();
	}

	async load() {
		try {
			const { collections } = await api.listCollections();
			const rows = collections.map((collection) => this.row(collection));
			find("#collection-list").replaceChildren(...rows);
		} catch (problem) {
			showError(problem);
		}
	}

	/** @param {Collection} collection */
	row({ name, masters }) {
		const current = name === state.current().collection;
		const row = el("li", {});
		const label = [isolated(name), el("span", { class: "hint", text: count(masters, "picture") })];
		row.append(
			button(
				{
					class: "choice",
					"aria-current": current ? "true" : null,
					on: { click: () => this.switchTo(name) },
				},
				current ? "check" : "folder",
				label,
			),
			button(
				{
					class: "quiet",
					"aria-label": `Delete the collection ${name}`,
					on: { click: () => this.confirmDeletion(row, name, masters) },
				},
				"trash",
			),
		);
		return row;
	}

	switchTo(collection) {
		this.dialog.close();
		state.update({ ...state.NO_SEARCH, collection, filter: "", sort: "", against: "", master: "" });
	}

	async create(event) {
		event.preventDefault();
		const input = find("#new-collection input");
		try {
			const { name } = await api.createCollection(input.value.trim());
			input.value = "";
			this.switchTo(name);
		} catch (problem) {
			showError(problem);
			input.focus();
		}
	}

	/** Asks the user to type the name of the collection, then deletes it. */
	confirmDeletion(row, name, masters) {
		const label = { "aria-label": `Type ${name} to delete it` };
		const input = el("input", { type: "text", required: true, autocomplete: "off", ...label });
		const submit = { type: "submit", class: "danger", disabled: true, text: "Delete permanently" };
		const confirm = el("button", submit);
		input.addEventListener("input", () => {
			confirm.disabled = input.value !== name;
		});
		const pictures = el("strong", { text: count(masters, "picture") });
		const typed = el("strong", {}, isolated(name));
		const form = el(
			"form",
			{ class: "confirm" },
			el("p", {}, "This permanently deletes ", pictures, ". Type ", typed, " to confirm."),
			input,
			el(
				"div",
				{ class: "buttons" },
				confirm,
				button({ on: { click: () => this.load() } }, null, "Cancel"),
			),
		);
		form.addEventListener("submit", (event) => {
			event.preventDefault();
			if (input.value === name) this.delete(name);
		});
		row.replaceChildren(form);
		input.focus();
	}

	async delete(name) {
		try {
			await api.deleteCollection(name);
			showToast(`Collection ${name} deleted.`);
			if (state.current().collection === name) this.switchTo("default");
			else await this.load();
			this.changed();
		} catch (problem) {
			showError(problem);
		}
	}
}
