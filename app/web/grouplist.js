/** The list of groups of duplicates: only what has changed is rendered again. */

import { find } from "./dom.js";
import { disposeGroup, groupCard, markGroup } from "./groupcards.js";

const versionOf = (group) => group.members.map(({ id, revision }) => `${id} ${revision}`).join();

export class GroupList {
	/**
	 * `actions`: keep(group, member), open(member), resolve(group), decide(group, decision),
	 * exclude(group, member).
	 */
	constructor(actions) {
		this.actions = actions;
		/** @type {Map<string, any>} */
		this.cards = new Map();
		/** @type {Map<string, ReviewedGroup>} */
		this.groups = new Map();
		this.container = find("#groups");
	}

	/** @param {ReviewedGroup[]} groups */
	draw(groups, options) {
		this.groups = new Map(groups.map((group) => [group.id, group]));
		for (const [id, card] of this.cards) {
			const group = this.groups.get(id);
			if (group && versionOf(group) === card.dataset.version) continue;
			this.cards.delete(id);
			disposeGroup(card);
		}
		let before = null;
		for (const group of groups) {
			const card = this.cards.get(group.id) ?? this.create(group, options);
			const place = before ? before.nextSibling : this.container.firstChild;
			if (place !== card) this.container.insertBefore(card, place);
			before = card;
		}
	}

	/** @param {ReviewedGroup} group */
	create(group, options) {
		const current = () => this.groups.get(group.id) ?? group;
		const { keep, open, resolve, decide, exclude } = this.actions;
		const actions = {
			open,
			keep: (member) => keep(current(), member),
			exclude: (member) => exclude(current(), member),
			resolve: () => resolve(current()),
			differ: () => decide(current(), "different"),
			keepAll: () => decide(current(), "keep"),
		};
		const card = groupCard(group, actions, options);
		card.dataset.version = versionOf(group);
		this.cards.set(group.id, card);
		return card;
	}

	/** Shows which pictures are kept, and where the keyboard is. */
	mark({ groups, index, member }) {
		for (const [number, group] of groups.entries()) {
			const card = this.cardOf(group);
			if (card) markGroup(card, group, number === index ? member : -1);
		}
	}

	/** @param {ReviewedGroup} group */
	cardOf(group) {
		return this.cards.get(group.id);
	}

	/**
	 * Moves the focus to the button that resolves a group, which says what it does.
	 * @param {ReviewedGroup} group
	 */
	ask(group) {
		find(".resolve", this.cardOf(group)).focus();
	}

	/** Returns the element of the picture at which the keyboard is. */
	memberAt({ group, member }) {
		return group && find(".members", this.cards.get(group.id))?.children[member];
	}
}
