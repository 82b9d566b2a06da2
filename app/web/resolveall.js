/** The dialog that resolves all groups of duplicates by a rule, after a preview. */

import * as api from "./api.js";
import { debounce, el, find, isolated } from "./dom.js";
import { bytes, count } from "./format.js";
import { release, show } from "./images.js";
import { orderOf, RULES } from "./review.js";
import { showError } from "./toasts.js";

const SHOWN = 50; // groups of the preview

export class ResolveAll {
	/** `done(result)`: pictures were deleted. */
	constructor({ done }) {
		this.done = done;
		this.busy = false;
		this.where = { collection: "", against: "" };
		/** @type {Map<string, Master>} */
		this.masters = new Map();
		this.permanent = false; // whether the deletion cannot be undone
		this.matched = 0;
		this.asked = 0; // previews that were asked for
		this.dialog = find("#resolve-all");
		this.submit = find("#resolve-form button");
		this.bar = find("#resolve-bar");
		const options = Object.entries(RULES).map(([value, text]) => el("option", { value, text }));
		find("#resolve-rule").replaceChildren(...options);
		const previewSoon = debounce(() => this.preview(), 50);
		find("#resolve-rule").addEventListener("change", previewSoon);
		find("#resolve-merge").addEventListener("change", previewSoon);
		find("#resolve-form").addEventListener("submit", (event) => {
			event.preventDefault();
			this.resolve();
		});
		this.dialog.addEventListener("close", () => this.list([]));
	}

	/** @param {{collection: string, against: string, permanent: boolean}} where */
	async open({ collection, against, permanent }) {
		this.where = { collection, against };
		this.permanent = permanent;
		find("#resolve-merge").checked = find("#dup-merge").checked;
		this.submit.disabled = true;
		find("#resolve-preview").textContent = "Counting…";
		this.dialog.showModal();
		await this.loadMasters();
		this.preview();
	}

	/** Loads the pictures of the groups that the preview shows. */
	async loadMasters() {
		const { collection, against } = this.where;
		const page = await api.listDuplicates(collection, { against, limit: SHOWN }).catch(() => null);
		const members = (page?.groups ?? []).flatMap((group) => group.members);
		this.masters = new Map(members.map((member) => [member.id, member]));
	}

	/** Returns the request by the chosen rule. */
	request() {
		const keep = orderOf(find("#resolve-rule").value);
		const scope = this.where.against ? { with: this.where.against } : {};
		return { ...scope, all: true, keep, merge_attributes: find("#resolve-merge").checked };
	}

	/** Shows how many pictures the rule deletes, and some of them. */
	async preview() {
		const asked = ++this.asked;
		this.submit.disabled = true;
		try {
			const plan = await api.previewResolution(this.where.collection, this.request());
			if (asked !== this.asked) return;
			this.matched = plan.matched;
			find("#resolve-preview").textContent = planAsText(plan);
			const how = this.permanent ? " permanently" : "";
			this.submit.textContent = `Delete ${count(plan.matched, "picture")}${how}`;
			this.submit.disabled = !plan.matched;
			this.list(plan.choices.slice(0, SHOWN));
		} catch (problem) {
			if (asked !== this.asked) return;
			find("#resolve-preview").textContent = problem.message;
			this.list([]);
		}
	}

	/** @param {{keep: string, delete: string[]}[]} choices */
	list(choices) {
		for (const image of find("#resolve-examples").querySelectorAll("img")) release(image);
		const known = (ids) => ids.map((id) => this.masters.get(id)).filter(Boolean);
		const rows = choices.map((choice) =>
			el(
				"li",
				{},
				known([choice.keep]).map((master) => this.picture(master, "kept")),
				known(choice.delete).map((master) => this.picture(master, "goes")),
			),
		);
		find("#resolve-examples").replaceChildren(...rows);
	}

	/** @param {Master} master */
	picture(master, fate) {
		const image = el("img", { alt: "", draggable: "false" });
		show(image, master, 128);
		const text = fate === "kept" ? "Keep" : "Delete";
		return el(
			"figure",
			{ class: fate },
			image,
			el("figcaption", {}, el("b", { text }), " ", isolated(master.name || "Untitled")),
		);
	}

	async resolve() {
		if (this.busy) return;
		this.busy = true;
		this.submit.disabled = true;
		try {
			const request = { ...this.request(), confirm: this.matched };
			const result = await api.resolveDuplicates(this.where.collection, request, (done, total) => {
				this.bar.hidden = false;
				this.bar.value = done / total;
			});
			this.dialog.close();
			this.done(result);
		} catch (problem) {
			showError(problem);
			if (this.dialog.open) this.preview(); // what it deletes may have changed
		} finally {
			this.busy = false;
			this.bar.hidden = true;
		}
	}
}

/**
 * Says what resolving would do.
 * @param {{groups: number, matched: number, bytes: number, merged: number, refused: number}} plan
 */
export function planAsText({ groups, matched, bytes: size, merged, refused }) {
	const which = `${count(matched, "picture")} of ${count(groups, "group")}`;
	const sentences = [`Deletes ${which} and frees ${bytes(size)}.`];
	if (merged) sentences.push(`${count(merged, "kept picture")} will get attributes of the others.`);
	if (refused)
		sentences.push(
			`${count(refused, "group")} will stay, because the attributes cannot be merged.`,
		);
	return sentences.join(" ");
}

/** Returns why groups were not resolved. */
export function refusal({ refused, examples }) {
	if (!refused) {
		const detail = "Pictures of this group have been deleted meanwhile. Nothing was done.";
		return new api.Problem({ status: 409, code: "count-changed", detail });
	}
	const detail =
		`${count(refused, "group")} not resolved, because the attributes cannot be merged: ` +
		`${examples[0].reason}. Resolve without merging attributes.`;
	return new api.Problem({ status: 422, code: "invalid-attributes", detail });
}
