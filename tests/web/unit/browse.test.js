/** When the grid of a collection reloads; the browser's interfaces are stand-ins. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

/** An element of which any property and method may be used. */
const element = () => ({
	hidden: false,
	clientWidth: 0,
	textContent: "",
	addEventListener() {},
	replaceChildren() {},
	append() {},
	setAttribute() {},
});
const document = {
	body: element(),
	documentElement: element(),
	addEventListener() {},
	createElement: element,
	querySelector: element,
	querySelectorAll: () => [],
};
const ResizeObserver = class {
	observe() {}
};
Object.assign(globalThis, { document, ResizeObserver, addEventListener() {}, scrollTo() {} });
Object.assign(globalThis, { cancelAnimationFrame() {}, sessionStorage: { getItem: () => null } });
Object.assign(globalThis, { getComputedStyle: () => ({ fontSize: "16px" }) });

const { Browse } = await import("../../../app/web/browse.js");

const requests = mock.fn();
let total = 0;
let respond = () => {};
const actions = { shown() {}, empty: () => [], noMatches: () => [] };

beforeEach(() => {
	requests.mock.resetCalls();
	total = 3;
	globalThis.fetch = async (path) => {
		requests(path);
		await new Promise((resolve) => {
			respond = () => resolve(null);
		});
		return new Response(JSON.stringify({ masters: [], total }));
	};
});

async function settle(work) {
	await new Promise((resolve) => setTimeout(resolve));
	respond();
	await work;
}

test("a count that differs reloads a view that has settled", async () => {
	const browse = new Browse(actions);
	await settle(browse.show({ collection: "default", filter: "", sort: "" }));
	total = 2;
	browse.onCount(2);
	assert.equal(requests.mock.callCount(), 2);
	await settle(null);
});

test("a count does not restart a view that is still loading", async () => {
	const browse = new Browse(actions);
	const loading = browse.show({ collection: "default", filter: "", sort: "" });
	browse.onCount(2);
	assert.equal(requests.mock.callCount(), 1);
	await settle(loading);
});

test("a count that is the same, or of a filtered view, reloads nothing", async () => {
	const browse = new Browse(actions);
	await settle(browse.show({ collection: "default", filter: "", sort: "" }));
	browse.onCount(3);
	await settle(browse.show({ collection: "default", filter: '{"a":1}', sort: "" }));
	browse.onCount(2);
	assert.equal(requests.mock.callCount(), 2);
});

test("another order loads the pictures again, and the same order does not", async () => {
	const browse = new Browse(actions);
	const shown = { collection: "default", filter: "", sort: "" };
	await settle(browse.show(shown));
	browse.show(shown);
	assert.equal(requests.mock.callCount(), 1);
	await settle(browse.show({ ...shown, sort: "-name" }));
	assert.equal(requests.mock.callCount(), 2);
	assert.match(requests.mock.calls[1].arguments[0], /[?&]sort=-name(&|$)/);
});
