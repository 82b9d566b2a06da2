/** The state of the page in the URL. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

const browser = { location: { search: "" }, history: { state: null } };
const go = (entry, url) => {
	browser.history.state = structuredClone(entry);
	browser.location.search = new URL(url, "http://localhost").search;
};
const pushState = mock.fn((entry, _title, url) => go(entry, url));
const replaceState = mock.fn((entry, _title, url) => go(entry, url));
Object.assign(browser.history, { pushState, replaceState });
Object.assign(globalThis, browser);

const state = await import("../../../app/web/state.js");

/** @type {Sample} */
const sample = { file: /** @type {any} */ ({ name: "cup.jpg" }) };

beforeEach(() => {
	go(null, "/");
	pushState.mock.resetCalls();
	replaceState.mock.resetCalls();
});

test("an empty URL shows the default collection", () => {
	assert.deepEqual(state.current(), {
		collection: "default",
		filter: "",
		sort: "",
		text: "",
		weight: 0.5,
		space: "",
		like: "",
		box: "",
		mirror: false,
		turns: false,
		more: [],
		less: [],
		group: "",
		fold: false,
		view: "",
		against: "",
		master: "",
		sample: null,
	});
});

test("a link shows the same again", () => {
	state.update({
		collection: "shop",
		filter: '{"a":1}',
		sort: "-name",
		like: "m1",
		box: "1,2,3,4",
		mirror: true,
		turns: true,
	});
	const shown = state.current();
	go(null, state.urlOf(shown));
	assert.deepEqual(state.current(), shown);
});

test("a link to a search by words and a picture shows the same again", () => {
	state.update({ text: "red bicycle, 50 %", like: "m1", weight: 0.25, space: "words" });
	const shown = state.current();
	go(null, state.urlOf(shown));
	assert.deepEqual(state.current(), shown);
	assert.equal(shown.text, "red bicycle, 50 %");
	assert.equal(shown.weight, 0.25);
});

test("words alone have no weight, box, mirrored or turned image", () => {
	state.update({ text: "cat", weight: 0.25, box: "1,2,3,4", mirror: true, turns: true });
	assert.equal(browser.location.search, "?text=cat");
});

test("a link to arranged results shows the same again, and browsing has no arrangement", () => {
	state.update({ text: "cat", group: "subject", fold: true });
	assert.equal(browser.location.search, "?text=cat&group=subject&fold=1");
	assert.deepEqual([state.current().group, state.current().fold], ["subject", true]);
	state.update({ text: "" });
	assert.equal(browser.location.search, "");
});

test("a link to the duplicates shows them again, and a search leaves them", () => {
	state.update({ view: "duplicates", against: "archive" });
	assert.equal(browser.location.search, "?view=duplicates&with=archive");
	assert.ok(state.isReview(state.current()));
	state.update({ text: "cat" });
	assert.equal(browser.location.search, "?text=cat");
	assert.ok(!state.isReview(state.current()));
});

test("a share that is none counts as half", () => {
	for (const weight of ["2", "-1", "heavy"]) {
		go(null, `/?text=cat&like=m1&weight=${weight}`);
		assert.equal(state.current().weight, 0.5);
	}
	go(null, "/?text=cat&like=m1&weight=0");
	assert.equal(state.current().weight, 0);
});

test("words stay when a picture is added or removed", () => {
	state.update({ text: "cat" });
	state.update({ like: "m1" });
	assert.ok(state.hasPicture(state.current()));
	state.update({ like: "" });
	assert.equal(state.current().text, "cat");
	assert.ok(state.isSearch(state.current()));
	state.update({ text: "" });
	assert.ok(!state.isSearch(state.current()));
});

test("default values are left out of the URL", () => {
	assert.equal(state.urlOf(state.current()), "/");
	state.update({ box: "1,2,3,4", mirror: true, turns: true }); // without a search
	assert.equal(browser.location.search, "");
});

test("a search with a file ends a search with a master, and the other way round", () => {
	state.update({ like: "m1" });
	state.update({ sample });
	assert.equal(state.current().sample, sample);
	assert.equal(state.current().like, "");
	state.update({ like: "m2" });
	assert.equal(state.current().sample, null);
	assert.equal(state.current().like, "m2");
});

test("the same file keeps its place in the history", () => {
	state.update({ sample });
	const first = browser.history.state;
	state.update({ mirror: true });
	assert.deepEqual(browser.history.state, first);
});

test("only changes without `replace` get a history entry", () => {
	state.update({ like: "m1" });
	state.update({ mirror: true }, { replace: true });
	assert.equal(pushState.mock.callCount(), 1);
	assert.equal(replaceState.mock.callCount(), 1);
});
