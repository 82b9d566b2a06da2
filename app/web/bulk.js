/** The dialog that changes or deletes all pictures that match the filter. */

import * as api from "./api.js";
import { AttributeForm } from "./attributes.js";
import { button, el, find } from "./dom.js";
import { count } from "./format.js";
import { offerUndo, restore } from "./restoring.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

export class Bulk {
	/** `changed()`: pictures were changed or deleted. */
	constructor({ changed }) {
		this.changed = changed;
		this.collection = "";
		this.filter = "";
		this.matched = 0;
		this.busy = false;
		this.dialog = find("#bulk");
		this.form = new AttributeForm(find("#bulk-attributes"));
		this.bar = find("#bulk-bar");
		find("#edit-all").addEventListener("click", () => this.open());
		find("#bulk-form").addEventListener("submit", (event) => this.change(event));
	}

	/** Offers it for a list with a filter. */
	show({ filter }, searching) {
		find("#edit-all").hidden = searching || !filter;
	}

	async open() {
		const { collection, filter } = state.current();
		try {
			Object.assign(this, { collection, filter });
			this.fill(await api.countMasters(collection, filter));
			if (!this.dialog.open) this.clear();
			if (!this.dialog.open) this.dialog.showModal();
		} catch (problem) {
			showError(problem);
		}
	}

	clear() {
		this.form.set({});
		find("#bulk-unset").value = "";
	}

	fill(matched) {
		this.matched = matched;
		const pictures = count(matched, "picture");
		find("#bulk-title").textContent = `Edit ${pictures}`;
		const which = `All that match the filter in the collection ${this.collection}.`;
		find("#bulk-which").textContent = which;
		find("#bulk-form > button").textContent = `Change ${pictures}`;
		this.offerDeletion();
	}

	offerDeletion() {
		const click = () => this.confirmDeletion();
		const text = `Delete ${count(this.matched, "picture")}…`;
		find("#bulk-deletion").replaceChildren(button({ class: "danger", on: { click } }, null, text));
	}

	/** Asks the user to type the number of pictures, then deletes them. */
	confirmDeletion() {
		const number = String(this.matched);
		const label = { "aria-label": `Type ${number} to delete them`, inputmode: "numeric" };
		const input = el("input", { type: "text", required: true, autocomplete: "off", ...label });
		const submit = { type: "submit", class: "danger", disabled: true, text: "Delete" };
		const confirm = el("button", submit);
		input.addEventListener("input", () => {
			confirm.disabled = input.value.trim() !== number;
		});
		const pictures = el("strong", { text: count(this.matched, "picture") });
		const typed = el("strong", { text: number });
		const cancel = button({ on: { click: () => this.offerDeletion() } }, null, "Cancel");
		const form = el(
			"form",
			{ class: "confirm" },
			el("p", {}, "This deletes ", pictures, ". Type ", typed, " to confirm."),
			input,
			el("div", { class: "buttons" }, confirm, cancel),
		);
		form.addEventListener("submit", (event) => {
			event.preventDefault();
			this.delete();
		});
		find("#bulk-deletion").replaceChildren(form);
		input.focus();
	}

	delete() {
		const { collection, filter, matched } = this;
		return this.run(async (progress) => {
			const values = { collection, filter, confirm: matched };
			const { deleted, deletion } = await api.deleteMasters(values, progress);
			const undo = deletion && (() => restore(deletion, this.changed));
			offerUndo(`${count(deleted, "picture")} deleted.`, undo);
		});
	}

	change(event) {
		event.preventDefault();
		const { collection, filter, matched } = this;
		return this.run(async (progress) => {
			const names = find("#bulk-unset").value.split(",");
			const unset = names.map((name) => name.trim()).filter(Boolean);
			const set = this.form.get();
			const change = { collection, filter: JSON.parse(filter), set, unset, confirm: matched };
			const { changed, refused, examples } = await api.changeMasters(change, progress);
			showToast(`${count(changed, "picture")} changed.`);
			if (!refused) return;
			const reason = `The first reason: ${examples[0].reason}.`;
			showToast(`${count(refused, "picture")} not changed. ${reason}`, { error: true });
		});
	}

	/** Runs one change at a time, and shows its progress. */
	async run(work) {
		if (this.busy) return;
		this.busy = true;
		try {
			await work((done, total) => {
				this.bar.hidden = false;
				this.bar.value = done / total;
			});
			this.dialog.close();
		} catch (problem) {
			showError(problem);
			if (problem.code === "count-changed") await this.open();
		} finally {
			this.busy = false;
			this.bar.hidden = true;
			this.changed();
		}
	}
}
