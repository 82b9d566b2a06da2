/** Which picture of a group is kept, and how the keyboard goes through groups. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { idsOf, orderOf, Review, strengthsOf, suggest } from "../../../app/web/review.js";

/** @returns {any} */
const master = (id, more = {}) => ({
	id,
	width: 100,
	height: 50,
	size: 1000,
	mime: "image/jpeg",
	created_at: "2024-05-01T10:00:00Z",
	capture: null,
	attributes: {},
	...more,
});
const group = (id, ...members) => ({ id, certainty: 40, members });
const three = () => {
	const review = new Review();
	review.reset([
		group("g1", master("a"), master("b", { width: 200 })),
		group("g2", master("c"), master("d"), master("e")),
		group("g3", master("f"), master("g")),
	]);
	return review;
};
const place = (review) => [review.group?.id, review.group?.members[review.member]?.id];

test("the rules decide in their order", () => {
	const large = master("large", { width: 400, size: 10 });
	const heavy = master("heavy", { size: 9000 });
	const lossless = master("lossless", { mime: "image/png" });
	const raw = master("raw", { mime: "image/x-canon-cr3" });
	const old = master("old", { created_at: "1999-01-01T00:00:00Z" });
	const rich = master("rich", { attributes: { a: { b: 2, c: [3, 4] } } });
	const all = [master("plain"), rich, old, lossless, raw, heavy, large];
	const kept = (first) => suggest(all, orderOf(first)).id;
	assert.deepEqual(["resolution", "size", "format", "oldest", "attributes"].map(kept), [
		"large",
		"heavy",
		"lossless",
		"old",
		"rich",
	]);
	assert.equal(suggest([master("y"), master("x")]).id, "x");
});

test("a strength is what no other picture of the group has", () => {
	const large = master("large", { width: 400 });
	const same = master("same", { width: 400, size: 5000 });
	assert.deepEqual(strengthsOf([large, same], large), []);
	assert.deepEqual(strengthsOf([large, same], same), ["size"]);
	assert.deepEqual(strengthsOf([master("a"), large], large), ["resolution"]);
});

test("what is suggested comes first and is kept, unless another is chosen", () => {
	const review = three();
	assert.deepEqual(
		review.groups[0].members.map(({ id }) => id),
		["b", "a"],
	);
	assert.deepEqual([review.group.suggested, review.group.keep], ["b", "b"]);
	review.move("ArrowRight");
	review.keep();
	assert.deepEqual([review.group.suggested, review.group.keep], ["b", "a"]);
});

test("arrow keys go between pictures and groups, and stop at the ends", () => {
	const review = three();
	assert.deepEqual(place(review), ["g1", "b"]);
	assert.ok(!review.move("ArrowLeft"));
	assert.ok(review.move("ArrowRight"));
	assert.ok(!review.move("ArrowRight"));
	assert.ok(review.move("ArrowDown"));
	assert.deepEqual(place(review), ["g2", "c"]);
	review.move("End");
	assert.deepEqual(place(review), ["g3", "f"]);
	assert.ok(!review.move("ArrowDown"));
	review.move("Home");
	assert.deepEqual(place(review), ["g1", "b"]);
	assert.ok(!review.move("x"));
});

test("a finished group leaves, and undoing brings it back to its place", () => {
	const review = three();
	review.move("ArrowDown");
	const [, second] = review.groups;
	review.finish(second, async () => {});
	assert.deepEqual(place(review), ["g3", "f"]);
	assert.deepEqual(
		review.groups.map(({ id }) => id),
		["g1", "g3"],
	);
	review.restore(review.done[0]);
	assert.deepEqual(
		review.groups.map(({ id }) => id),
		["g1", "g2", "g3"],
	);
	assert.deepEqual(place(review), ["g2", "c"]);
	assert.deepEqual(review.done, []);
});

test("the last group leaves nothing to point at", () => {
	const review = new Review();
	review.reset([group("g1", master("a"), master("b"))]);
	review.finish(review.group, async () => {});
	assert.equal(review.group, undefined);
	review.keep();
	assert.ok(!review.move("ArrowDown"));
	assert.ok(!review.move("ArrowRight"));
});

test("a deleted picture leaves its group, and a single one is no group", () => {
	const review = three();
	review.without("b");
	assert.deepEqual(
		review.groups.map(({ id }) => id),
		["g2", "g3"],
	);
	review.without("c");
	assert.deepEqual(
		review.groups[0].members.map(({ id }) => id),
		["d", "e"],
	);
	assert.equal(review.groups[0].keep, "d");
});

test("a request is about at most a hundred pictures, and always about the one that is kept", () => {
	const members = Array.from({ length: 150 }, (_, index) => master(`m${index}`));
	const ids = idsOf({ keep: "m149", members });
	assert.deepEqual([ids.length, ids[0], ids[1], ids[99]], [100, "m149", "m0", "m98"]);
	assert.deepEqual(idsOf({ keep: "m1", members: members.slice(0, 2) }), ["m1", "m0"]);
});

test("the keyboard stays at the pictures that are shown", () => {
	const review = new Review();
	review.reset([group("g1", ...Array.from({ length: 30 }, (_, index) => master(`m${index}`)))]);
	for (let step = 0; step < 40; step++) review.move("ArrowRight");
	assert.equal(review.member, 23);
});

test("a different picture leaves its group until that is undone", () => {
	const review = three();
	review.move("ArrowDown");
	const before = review.group;
	review.exclude(before, "c", async () => {});
	assert.deepEqual(
		review.group.members.map(({ id }) => id),
		["d", "e"],
	);
	assert.equal(review.group.keep, "d");
	review.restore(review.done[0]);
	assert.equal(review.groups[1], before);
	assert.equal(review.groups.length, 3);
});

test("further groups are added once", () => {
	const review = three();
	review.add([group("g3", master("f"), master("g")), group("g4", master("h"), master("i"))]);
	assert.deepEqual(
		review.groups.map(({ id }) => id),
		["g1", "g2", "g3", "g4"],
	);
});
