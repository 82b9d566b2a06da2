/** Whether words can be searched for, and whether they were understood. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { adviceOn, balance, needsEncoder, spaceForWords } from "../../../app/web/spaces.js";

/** @returns {Space} */
const space = (name, text, changes = {}) => ({
	name,
	text,
	model_version: "v1",
	dimension: 512,
	...changes,
});

test("words are compared in the space `words` if it has a version", () => {
	const [look, words] = [space("look", "built-in"), space("words", "encoder")];
	assert.equal(spaceForWords([look, words], ""), words);
	assert.equal(spaceForWords([look, { ...words, model_version: null }], ""), look);
	assert.equal(spaceForWords([look], ""), look);
});

test("a chosen space decides alone", () => {
	const spaces = [space("look", "built-in"), space("copies", null)];
	assert.ok(needsEncoder(spaceForWords(spaces, "copies")));
	assert.ok(!needsEncoder(spaceForWords(spaces, "look")));
	assert.ok(!needsEncoder(spaceForWords(spaces, "gone"))); // the service will say so
});

test("a space that is not loaded, or not known yet, claims nothing", () => {
	assert.ok(!needsEncoder(spaceForWords([], "")));
	assert.ok(!needsEncoder(space("look", null, { dimension: null })));
	assert.ok(needsEncoder(space("look", null)));
});

test("words that are hardly understood get advice, and others none", () => {
	const look = space("look", "built-in");
	const advised = (understood) => adviceOn({ understood }, look) !== "";
	assert.deepEqual([null, 0, 0.49, 0.5, 1].map(advised), [false, true, true, false, false]);
});

test("words that are refused get advice where an encoder would help", () => {
	const look = space("look", "built-in");
	assert.match(adviceOn({ code: "text-not-supported" }, undefined), /need an encoder/);
	assert.match(adviceOn({ code: "text-not-understood" }, look), /built-in words/);
	assert.equal(adviceOn({ code: "text-not-understood" }, space("words", "encoder")), "");
	assert.equal(adviceOn({ code: "busy" }, look), "");
});

test("the balance names both shares", () => {
	assert.equal(balance(0.5), "50 % words, 50 % picture");
	assert.equal(balance(0.05), "5 % words, 95 % picture");
});
