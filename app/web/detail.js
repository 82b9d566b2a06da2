/** The dialog of one master: its picture, its facts, and what can be done with it. */

import * as api from "./api.js";
import { AttributeForm } from "./attributes.js";
import { factsOf } from "./capture.js";
import { momentText } from "./dates.js";
import { scheduleDeletion } from "./deletion.js";
import { el, find, isolated } from "./dom.js";
import { typeText } from "./fields.js";
import { bytes } from "./format.js";
import { openOriginal, release, show } from "./images.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

export class Detail {
	/** @param {{findSimilar: (master: Master) => void, changed: () => void}} actions */
	constructor(actions) {
		this.actions = actions;
		this.id = "";
		/** @type {any} */
		this.master = null;
		this.saving = false;
		this.dialog = find("#detail");
		this.image = find("#detail-image");
		this.form = new AttributeForm(find("#detail-attributes"));
		this.dialog.addEventListener("close", () => {
			release(this.image);
			this.id = "";
			if (state.current().master) state.update({ master: "" });
		});
		find("#detail-form").addEventListener("submit", (event) => this.save(event));
		find("#detail-like").addEventListener("click", () => actions.findSimilar(this.master));
		find("#detail-original").addEventListener("click", () =>
			openOriginal(this.master).catch(showError),
		);
		find("#detail-delete").addEventListener("click", () => {
			this.dialog.close();
			scheduleDeletion(this.master);
		});
	}

	/** Opens the dialog for a master's ID, or closes it for "". */
	async show({ master: id }) {
		if (!id) {
			this.id = ""; // a response that arrives later must not open the dialog
			if (this.dialog.open) this.dialog.close();
			return;
		}
		if (id === this.id) return;
		this.id = id;
		try {
			const master = await api.getMaster(id);
			if (id === this.id) this.fill(master);
		} catch (problem) {
			this.id = "";
			showError(problem);
			state.update({ master: "" }, { replace: true });
			if (problem.status === 404) this.actions.changed();
		}
	}

	/** @param {Master} master */
	fill(master) {
		this.master = master;
		this.image.alt = master.name;
		show(this.image, master, 1024);
		find("#detail-title").replaceChildren(isolated(master.name || "Untitled"));
		find("#detail-name").value = master.name;
		this.form.set(master.attributes);
		find("#capture").replaceChildren(...factsOf(master.capture));
		const facts = {
			Size: `${master.width} × ${master.height} pixels, ${bytes(master.size)}`,
			Type: typeText(master.mime),
			Collection: isolated(master.collection),
			Uploaded: momentText(master.created_at),
			ID: el("code", { text: master.id }),
			"SHA-256": el("code", { text: master.sha256 }),
		};
		find("#facts").replaceChildren(
			...Object.entries(facts).flatMap(([term, fact]) => [
				el("dt", { text: term }),
				el("dd", {}, fact),
			]),
		);
		if (!this.dialog.open) this.dialog.showModal();
	}

	async save(event) {
		event.preventDefault();
		if (this.saving) return; // the second of two clicks would seem to be somebody else's change
		this.saving = true;
		const { id } = this;
		try {
			const changes = { name: find("#detail-name").value, attributes: this.form.get() };
			const master = await api.updateMaster(this.master, changes);
			if (id === this.id) this.fill(master); // the dialog may show another master by now
			this.actions.changed();
			showToast("Changes saved.");
		} catch (problem) {
			if (problem.code === "precondition-failed") await this.explainConflict(id);
			else showError(problem);
		} finally {
			this.saving = false;
		}
	}

	/** Keeps what was typed, and lets the user choose between it and what was saved meanwhile. */
	async explainConflict(id) {
		try {
			const newest = await api.getMaster(id);
			if (id !== this.id) return;
			this.master = newest; // so that saving again replaces it
			const text =
				"Your changes are not saved, because this picture was changed after you opened it. " +
				"Save again to replace those changes with yours, or show them and lose yours.";
			const run = () => id === this.id && this.fill(newest);
			showToast(text, { error: true, seconds: 30, action: { label: "Show them", run } });
		} catch (problem) {
			showError(problem);
		}
	}
}
