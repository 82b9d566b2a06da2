/** How a group of duplicates appears: its pictures side by side, and what can be done with it. */

import { summarise } from "./cards.js";
import { dayText } from "./dates.js";
import { button, el, find, icon, isolated } from "./dom.js";
import { typeText } from "./fields.js";
import { bytes, count } from "./format.js";
import { release, show } from "./images.js";
import { idsOf, SHOWN, strengthsOf } from "./review.js";

const SIZE = 512; // pixels of a picture

/**
 * Creates a group. `actions`: keep(member), open(member), exclude(member), resolve(), differ(), keepAll().
 * `several`: the pictures are of two collections. `permanent`: deletions cannot be undone.
 * @param {ReviewedGroup} group
 */
export function groupCard(group, actions, { several, permanent }) {
	const shown = group.members.slice(0, SHOWN);
	const left = group.members.length - shown.length;
	return el(
		"li",
		{ class: "group", "data-id": group.id },
		el(
			"div",
			{ class: "group-head" },
			el("h2", { text: count(group.members.length, "picture") }),
			el("span", { class: "hint", text: `certainty: ${pointsText(group.certainty)}` }),
			el("span", { class: "spring" }),
			button({ class: "quiet", on: { click: actions.keepAll } }, null, "Keep all"),
			button({ class: "quiet", on: { click: actions.differ } }, null, "Not duplicates"),
			button(
				{ class: "resolve", on: { click: actions.resolve } },
				null,
				resolution(group, permanent),
			),
		),
		el(
			"ul",
			{ class: "members" },
			shown.map((member) => memberCard(group, member, actions, several)),
		),
		left > 0 && el("p", { class: "hint", text: `and ${count(left, "more picture")}` }),
	);
}

const pointsText = (points) => count(points, "matching point");
const resolution = (group, permanent) =>
	`Keep 1, delete ${idsOf(group).length - 1}${permanent ? " permanently" : ""}`;

/**
 * @param {ReviewedGroup} group
 * @param {Member} member
 */
function memberCard(group, member, actions, several) {
	const image = el("img", { alt: "", draggable: "false", decoding: "async" });
	show(image, member, SIZE);
	const lost = el("span", { class: "lost" }, icon("broken"), "No preview");
	const name = member.name || "Untitled";
	const keep = {
		class: "keep",
		"aria-label": `Keep ${name}`,
		on: { click: () => actions.keep(member) },
	};
	const open = {
		class: "quiet",
		"aria-label": `Open ${name}`,
		on: { click: () => actions.open(member) },
	};
	const label = `Different from the others: ${name}`;
	const differs = {
		class: "quiet",
		"aria-label": label,
		on: { click: () => actions.exclude(member) },
	};
	return el(
		"li",
		{ class: "member", "data-id": member.id, tabindex: -1 },
		el("div", { class: "shot" }, image, lost, el("span", { class: "fate" })),
		el("div", { class: "name" }, isolated(name)),
		el("ul", { class: "traits" }, traitsOf(group, member, several)),
		el(
			"div",
			{ class: "buttons" },
			button(keep, null, "Keep"),
			button(open, null, "Open"),
			group.members.length > 2 && button(differs, null, "Different"),
		),
	);
}

/**
 * @param {ReviewedGroup} group
 * @param {Member} member
 */
function traitsOf({ members, suggested }, member, several) {
	const strengths = strengthsOf(members, member);
	const best = (name, text) => el(strengths.includes(name) ? "b" : "span", { text });
	const { common, distance } = member;
	const attributes = summarise(member.attributes);
	const near = common !== null && distance !== null;
	const taken = member.capture?.time?.slice(0, 10);
	return [
		member.id === suggested && el("em", { text: "Suggested" }),
		best("resolution", `${member.width} × ${member.height} px`),
		best("size", bytes(member.size)),
		best("format", typeText(member.mime)),
		taken && el("span", { text: `taken ${dayText(taken)}` }),
		best("oldest", `uploaded ${dayText(member.created_at.slice(0, 10))}`),
		several && el("span", {}, "in ", isolated(member.collection)),
		attributes && el(strengths.includes("attributes") ? "b" : "span", {}, isolated(attributes)),
		near && el("span", { text: `${pointsText(common)}, distance ${distance.toFixed(2)}` }),
	]
		.filter(Boolean)
		.map((trait) => el("li", {}, trait));
}

/**
 * Shows which picture is kept, and where the keyboard is.
 * @param {any} card
 * @param {ReviewedGroup} group
 * @param {number} current the picture at which the keyboard is, or -1
 */
export function markGroup(card, group, current) {
	card.toggleAttribute("data-current", current >= 0);
	for (const [index, node] of [...find(".members", card).children].entries()) {
		const kept = node.dataset.id === group.keep;
		node.classList.toggle("kept", kept);
		node.setAttribute("tabindex", index === current ? "0" : "-1");
		find(".fate", node).textContent = kept ? "Keep" : "Delete";
		find(".keep", node).setAttribute("aria-pressed", String(kept));
	}
}

/** @param {HTMLElement} card */
export function disposeGroup(card) {
	for (const image of card.querySelectorAll("img")) release(image);
	card.remove();
}
