/** The groups of duplicates on the screen: what is kept of each, and where the keyboard is. */

export const SHOWN = 24; // pictures of one group on the screen
const LARGEST = 100; // pictures of one request; a limit of the service

/** What decides which picture of a group to keep, the most important first. */
export const RULES = {
	resolution: "the highest resolution",
	size: "the largest file",
	format: "a lossless format",
	oldest: "the earliest upload",
	attributes: "the most attributes",
};

// WebP, AVIF, HEIC and JPEG XL may be lossless, and nearly never are.
const LOSSLESS = ["image/png", "image/bmp", "image/tiff"];

/** As the service measures. @type {Record<string, (master: Master) => number>} the greatest is kept */
const MEASURES = {
	resolution: ({ width, height }) => width * height,
	size: ({ size }) => size,
	format: ({ mime }) => Number(LOSSLESS.includes(mime) || mime.startsWith("image/x-")),
	oldest: ({ created_at }) => -Date.parse(created_at),
	attributes: ({ attributes }) => countValues(attributes),
};

/** @returns {number} */
function countValues(value) {
	const isObject = value && typeof value === "object" && !Array.isArray(value);
	if (!isObject) return 1;
	return Object.values(value).reduce((sum, inner) => sum + countValues(inner), 0);
}

/**
 * Returns the measures in which a master is better than all others of its group.
 * @param {Master[]} masters
 * @param {Master} master
 */
export const strengthsOf = (masters, master) =>
	Object.keys(MEASURES).filter((name) =>
		masters.every(
			(other) => other.id === master.id || MEASURES[name](master) > MEASURES[name](other),
		),
	);

/**
 * Returns the order in which rules are applied when one comes first.
 * @param {string} first
 */
export const orderOf = (first) => [first, ...Object.keys(RULES).filter((rule) => rule !== first)];

/**
 * Returns the master of a group that the rules keep.
 * @param {Master[]} masters
 * @param {string[]} rules the most important first
 */
export function suggest(masters, rules = Object.keys(RULES)) {
	const compare = (a, b) => {
		for (const rule of rules) {
			const difference = MEASURES[rule](b) - MEASURES[rule](a);
			if (difference) return difference;
		}
		return MEASURES.oldest(b) - MEASURES.oldest(a) || (a.id < b.id ? -1 : 1);
	};
	return masters.toSorted(compare)[0];
}

/**
 * Returns the pictures of a group that one request is about; the one that is kept comes first.
 * @param {{keep: string, members: {id: string}[]}} group
 */
export function idsOf({ keep, members }) {
	const others = members.map(({ id }) => id).filter((id) => id !== keep);
	return [keep, ...others].slice(0, LARGEST);
}

/** @param {DuplicateGroup} group */
function reviewed(group) {
	const suggested = suggest(group.members).id;
	const first = group.members.filter(({ id }) => id === suggested);
	const members = [...first, ...group.members.filter(({ id }) => id !== suggested)];
	return { ...group, members, suggested, keep: suggested };
}

/**
 * @param {ReviewedGroup} group
 * @returns {ReviewedGroup}
 */
function withoutMember(group, masterId) {
	const members = group.members.filter(({ id }) => id !== masterId);
	if (members.length === group.members.length) return group;
	const kept = members.some(({ id }) => id === group.keep);
	return members.length < 2 || kept ? { ...group, members } : reviewed({ ...group, members });
}

export class Review {
	constructor() {
		/** @type {ReviewedGroup[]} */
		this.groups = [];
		this.index = 0; // the group at which the keyboard is
		this.member = 0;
		/** @type {{group: ReviewedGroup, index: number, undo: () => Promise<unknown>}[]} */
		this.done = []; // what can be undone, the latest last
	}

	get group() {
		return this.groups[this.index];
	}

	/** @param {DuplicateGroup[]} groups */
	reset(groups) {
		this.groups = groups.map(reviewed);
		this.index = 0;
		this.member = 0;
	}

	/** @param {DuplicateGroup[]} groups */
	add(groups) {
		const known = new Set(this.groups.map(({ id }) => id));
		this.groups.push(...groups.filter(({ id }) => !known.has(id)).map(reviewed));
	}

	/**
	 * Moves with an arrow key, Home or End. Returns whether there was anything to move to.
	 * @param {string} key
	 */
	move(key) {
		const { index, member, groups } = this;
		const last = Math.min(SHOWN, this.group?.members.length ?? 1) - 1;
		if (key === "ArrowRight") this.member = Math.min(last, member + 1);
		if (key === "ArrowLeft") this.member = Math.max(0, member - 1);
		if (!groups.length) return false;
		if (key === "ArrowDown") this.index = Math.min(groups.length - 1, index + 1);
		if (key === "ArrowUp") this.index = Math.max(0, index - 1);
		if (key === "Home") this.index = 0;
		if (key === "End") this.index = groups.length - 1;
		if (index !== this.index) this.member = 0;
		return index !== this.index || member !== this.member;
	}

	/** Goes to a picture, and returns whether it is on the screen. */
	goTo(groupId, masterId) {
		const index = this.groups.findIndex(({ id }) => id === groupId);
		if (index < 0) return false;
		this.index = index;
		const member = this.group.members.findIndex(({ id }) => id === masterId);
		this.member = Math.max(0, member);
		return member >= 0;
	}

	/** Keeps the picture at which the keyboard is. */
	keep() {
		const chosen = this.group?.members[this.member];
		if (chosen) this.group.keep = chosen.id;
	}

	/**
	 * Takes a group off the screen.
	 * @param {ReviewedGroup} group
	 * @param {() => Promise<unknown>} undo
	 */
	finish(group, undo) {
		const index = this.groups.indexOf(group);
		if (index < 0) return;
		this.groups.splice(index, 1);
		if (this.index > index) this.index--;
		this.stay();
		this.done.push({ group, index, undo });
	}

	/**
	 * Takes a picture that is none of the duplicates out of its group.
	 * @param {ReviewedGroup} group with three or more
	 * @param {() => Promise<unknown>} undo
	 */
	exclude(group, masterId, undo) {
		const index = this.groups.indexOf(group);
		if (index < 0) return;
		this.groups[index] = withoutMember(group, masterId);
		this.stay();
		this.done.push({ group, index, undo });
	}

	/** Puts a group that is undone back to its place. */
	restore({ group, index }) {
		this.done = this.done.filter((step) => step.group !== group);
		this.groups = this.groups.filter(({ id }) => id !== group.id);
		this.groups.splice(Math.min(index, this.groups.length), 0, group);
		this.goTo(group.id, group.keep);
	}

	/** Removes a deleted master, and groups with a single one. */
	without(masterId) {
		this.groups = this.groups
			.map((group) => withoutMember(group, masterId))
			.filter(({ members }) => members.length > 1);
		this.stay();
	}

	/** Keeps the place of the keyboard inside the list. */
	stay() {
		this.index = Math.max(0, Math.min(this.index, this.groups.length - 1));
		this.member = Math.min(this.member, (this.group?.members.length ?? 1) - 1);
	}
}
