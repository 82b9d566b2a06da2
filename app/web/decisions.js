/** What is done with a group of duplicates. Each returns a text about it, and how to undo it. */

import * as api from "./api.js";
import { count } from "./format.js";
import { refusal } from "./resolveall.js";
import { restore } from "./restoring.js";
import { idsOf } from "./review.js";

/**
 * Keeps one picture of a group and deletes the others.
 * @param {{collection: string, against: string}} where
 * @param {ReviewedGroup} group
 * @param {boolean} merge whether the kept picture gets attributes of the others
 * @param {() => void} changed called when pictures were deleted or restored
 */
export async function resolveGroup({ collection, against }, group, merge, changed) {
	const masters = idsOf(group);
	const resolution = {
		...(against && { with: against }),
		groups: [{ masters, keep: group.keep }],
		merge_attributes: merge,
		confirm: masters.length - 1,
	};
	const result = await api.resolveDuplicates(collection, resolution);
	const { deleted, deletion } = result;
	if (!deleted) throw refusal(result);
	changed();
	const undo = deletion && (() => restore(deletion, changed));
	return { text: `${count(deleted, "picture")} deleted.`, undo };
}

/**
 * Keeps all pictures of a group, which is not shown again.
 * @param {ReviewedGroup} group
 * @param {"different" | "keep"} decision
 */
export async function decideGroup(group, decision) {
	const ids = idsOf(group);
	await api.decide(ids, decision);
	const kept = `All ${count(ids.length, "picture")} kept.`;
	const text = decision === "keep" ? kept : "Marked as different pictures.";
	return { text, undo: () => api.takeBackDecision(ids).then(() => true) };
}

/**
 * Decides that a picture is different from all others of its group.
 * @param {ReviewedGroup} group
 * @param {Member} member
 */
export async function excludeMember(group, member) {
	const others = group.members.filter(({ id }) => id !== member.id);
	const pairs = others.map(({ id }) => [member.id, id]);
	const each = async (work) => {
		for (const pair of pairs) await work(pair);
		return true;
	};
	await each((pair) => api.decide(pair, "different"));
	return { text: "Marked as a different picture.", undo: () => each(api.takeBackDecision) };
}
