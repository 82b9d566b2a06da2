/** The view of duplicates: the scan, its groups, and what the user decides about them. */

import * as api from "./api.js";
import { failure } from "./browse.js";
import { decideGroup, excludeMember, resolveGroup } from "./decisions.js";
import { announce, el, find } from "./dom.js";
import { count } from "./format.js";
import { GroupList } from "./grouplist.js";
import { ResolveAll, refusal } from "./resolveall.js";
import { offerUndo, restore } from "./restoring.js";
import { Review } from "./review.js";
import { ScanPanel } from "./scanpanel.js";
import * as state from "./state.js";
import { showError, showToast } from "./toasts.js";

const PAGE = 20; // groups
const AHEAD = 4; // groups before the end at which the next page is loaded

export class Duplicates {
	/** `changed()`: pictures were deleted or restored. */
	constructor({ changed }) {
		this.changed = changed;
		this.collection = "";
		this.against = "";
		this.review = new Review();
		/** @type {string | null} */
		this.next = null;
		this.busy = false;
		this.permanent = false; // whether no deletion can be undone
		this.stop = new AbortController();
		this.endToast = (_options = {}) => {};
		this.section = find("#duplicates");
		this.list = new GroupList({
			keep: (group, member) => {
				this.review.goTo(group.id, member.id);
				this.keep();
			},
			open: (member) => state.update({ master: member.id }),
			resolve: (group) => this.resolve(group),
			decide: (group, decision) => this.decide(group, decision),
			exclude: (group, member) => this.exclude(group, member),
		});
		this.scan = new ScanPanel({
			begun: () => this.reload(),
			ended: () => this.reload(),
			found: () => this.onFound(),
		});
		this.all = new ResolveAll({ done: (result) => this.onResolved(result) });
		this.listen();
	}

	listen() {
		this.section.addEventListener("keydown", (event) => this.onKey(event));
		this.section.addEventListener("focusin", ({ target }) => this.onFocus(target));
		find("#dup-order").addEventListener("change", () => this.reload());
		find("#dup-new").addEventListener("click", () => this.reload());
		find("#dup-more").addEventListener("click", () => this.loadMore());
		find("#dup-keys").addEventListener("click", () => find("#keys").showModal());
		find("#dup-all").addEventListener("click", () => this.all.open(this));
		find("#dup-with").addEventListener("change", ({ target }) =>
			state.update({ against: target.value }),
		);
	}

	/** @param {State} now */
	show({ collection, against }) {
		this.section.hidden = false;
		find("#count").textContent = "Duplicates";
		if (collection === this.collection && against === this.against) return;
		Object.assign(this, { collection, against });
		this.review = new Review();
		this.listCollections();
		this.reload();
	}

	hide() {
		this.section.hidden = true;
		this.collection = "";
		this.stop.abort();
		this.scan.stop();
		this.draw([]);
	}

	/** Offers the collections that the pictures can be compared with. */
	async listCollections() {
		const { collections } = await api.listCollections().catch(() => ({ collections: [] }));
		const others = collections.map(({ name }) => name).filter((name) => name !== this.collection);
		const names = new Set([...others, this.against].filter(Boolean));
		const options = [...names].map((value) => el("option", { value, text: `With ${value}` }));
		const inside = el("option", { value: "", text: "Within this collection" });
		find("#dup-with").replaceChildren(inside, ...options);
		find("#dup-with").value = this.against;
		find("#dup-with").hidden = !names.size;
	}

	/** Loads the scan and its first groups. */
	async reload() {
		this.stop.abort();
		this.stop = new AbortController();
		const page = await this.fetch(null);
		if (!page) return;
		this.next = page.next_cursor;
		this.permanent = !page.undo_hours;
		const { group, member } = this.review;
		this.review.reset(page.groups);
		if (group) this.review.goTo(group.id, group.members[member]?.id);
		this.scan.show(this, page.scan);
		this.draw();
		if ([document.body, find("#results")].includes(document.activeElement)) {
			this.focus({ scroll: false });
		}
	}

	async loadMore() {
		const cursor = this.next;
		if (!cursor) return;
		this.next = null; // one request at a time
		const page = await this.fetch(cursor);
		this.next = page ? page.next_cursor : cursor;
		if (page) this.review.add(page.groups);
		this.draw();
	}

	/** Returns a page of groups; null where there is none to show. */
	async fetch(cursor) {
		const { collection, against, stop } = this;
		find("#nothing").hidden = true;
		try {
			const values = { against, sort: find("#dup-order").value, limit: PAGE, cursor };
			return await api.listDuplicates(collection, values, stop.signal);
		} catch (problem) {
			if (problem.name === "AbortError") return null;
			if (cursor) showError(problem);
			else this.explain(problem);
			return null;
		} finally {
			document.body.setAttribute("data-ready", "");
		}
	}

	/** Offers a scan where there is none, or says what went wrong. */
	explain(problem) {
		this.next = null;
		this.review.reset([]);
		const missing = problem.status === 404 && problem.code !== "collection-not-found";
		this.scan.show(this, null);
		this.draw();
		if (missing) return;
		this.scan.hide();
		find("#nothing").hidden = false;
		find("#nothing").replaceChildren(...failure(problem, () => this.reload()));
	}

	/** Shows the groups, and what can be done with all of them. */
	draw(groups = this.review.groups) {
		this.list.draw(groups, { several: Boolean(this.against), permanent: this.permanent });
		this.list.mark(this.review);
		find("#dup-more").hidden = !this.next;
		find("#dup-all").hidden = !groups.length;
		find("#dup-empty").hidden = !this.scan.scan || groups.length > 0;
		find("#dup-empty").textContent = this.scan.isRunning ? "None found so far." : "No duplicates.";
	}

	/** Moves the focus to the current picture. */
	focus({ scroll = true } = {}) {
		const target = this.list.memberAt(this.review) ?? this.section;
		target.focus({ preventScroll: true });
		if (scroll) target.scrollIntoView({ block: "nearest" });
		if (this.review.groups.length - this.review.index <= AHEAD) this.loadMore();
	}

	onFocus(target) {
		const member = target.closest(".member");
		const card = target.closest(".group");
		if (!card) return;
		const { group } = this.review;
		if (member) this.review.goTo(card.dataset.id, member.dataset.id);
		else if (group?.id !== card.dataset.id) this.review.goTo(card.dataset.id, "");
		this.list.mark(this.review);
	}

	onKey(event) {
		const { target, key } = event;
		if (event.ctrlKey || event.metaKey || event.altKey || target.closest("select, input")) return;
		const { group } = this.review;
		const works = {
			k: () => this.keep(),
			x: () => group && this.decide(group, "different"),
			d: () => group && this.exclude(group, group.members[this.review.member]),
			X: () => group && this.decide(group, "keep"),
			u: () => this.undo(),
			"?": () => find("#keys").showModal(),
			Enter: () => group && (this.permanent ? this.list.ask(group) : this.resolve(group)),
		};
		if (key === "Enter" && target.closest("button, a")) return;
		if (this.review.move(key)) {
			this.list.mark(this.review);
			this.focus();
		} else if (!works[key]) return;
		works[key]?.();
		event.preventDefault();
	}

	keep() {
		this.review.keep();
		this.list.mark(this.review);
		const chosen = this.review.group?.members[this.review.member];
		if (chosen) announce(`Keep ${chosen.name}`);
	}

	/** @param {ReviewedGroup} group */
	resolve(group) {
		const merge = find("#dup-merge").checked;
		return this.finish(group, () => resolveGroup(this, group, merge, this.changed));
	}

	/**
	 * @param {ReviewedGroup} group
	 * @param {"different" | "keep"} decision
	 */
	decide(group, decision) {
		return this.finish(group, () => decideGroup(group, decision));
	}

	/**
	 * Decides that a picture is none of the duplicates. Of two pictures, this is about both.
	 * @param {ReviewedGroup} group
	 * @param {Member} member
	 */
	exclude(group, member) {
		if (group.members.length < 3) return this.decide(group, "different");
		const done = (undo) => this.review.exclude(group, member.id, undo);
		return this.finish(group, () => excludeMember(group, member), done);
	}

	/** Does the work, by default takes the group off the screen, and offers to undo it. */
	async finish(group, work, done = (undo) => this.review.finish(group, undo)) {
		if (this.busy) return;
		const card = this.list.cardOf(group);
		this.busy = true;
		card?.setAttribute("aria-busy", "true");
		try {
			const { text, undo } = await work();
			done(undo);
			this.endToast();
			this.endToast = offerUndo(text, undo && (() => this.undo(group)));
			this.draw();
			this.focus();
			announce(text);
		} catch (problem) {
			card?.removeAttribute("aria-busy");
			showError(problem);
			if (problem.status === 404 || problem.status === 409) this.reload();
		} finally {
			this.busy = false;
		}
	}

	/** Undoes what was done with a group, or else what was done last. */
	async undo(group = this.review.done.at(-1)?.group) {
		const step = this.review.done.find((each) => each.group === group);
		if (!step) return announce("Nothing to undo.");
		if (!step.undo) return showToast("This deletion cannot be undone.", { error: true });
		if (this.busy) return;
		this.busy = true;
		try {
			if (!(await step.undo())) return;
			this.endToast();
			this.review.restore(step);
			this.draw();
			this.focus();
		} catch (problem) {
			showError(problem);
		} finally {
			this.busy = false;
		}
	}

	/** All groups were resolved by a rule. */
	onResolved(result) {
		const { deleted, deletion, refused } = result;
		this.changed();
		this.reload();
		const changed = () => {
			this.changed();
			this.reload();
		};
		const undo = () => restore(deletion, changed);
		this.endToast();
		this.endToast = offerUndo(`${count(deleted, "picture")} deleted.`, deletion && undo);
		if (refused) showError(refusal(result));
	}

	/** The scan has found more. */
	onFound() {
		if (!this.review.groups.length) this.reload();
		else find("#dup-new").hidden = false;
	}

	/** Removes a deleted master. */
	without(id) {
		this.review.without(id);
		this.draw();
	}
}
