/** What resolving all groups would do, as text. */

import assert from "node:assert/strict";
import { test } from "node:test";

Object.assign(globalThis, {
	addEventListener() {},
	document: { addEventListener() {} },
	location: { search: "" },
	history: { state: null },
});

const { planAsText } = await import("../../../app/web/resolveall.js");

const plan = { groups: 2, matched: 3, bytes: 2_500_000, merged: 0, refused: 0 };

test("the preview says how many pictures go and what that frees", () => {
	assert.equal(planAsText(plan), "Deletes 3 pictures of 2 groups and frees 2.5 MB.");
});

test("the preview says what becomes of attributes", () => {
	const text = planAsText({ ...plan, merged: 1, refused: 2 });
	assert.match(text, /1 kept picture will get attributes of the others\. 2 groups will stay, /);
});
