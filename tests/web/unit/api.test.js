/** Requests, keys and errors. */

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

const stored = new Map();
const sessionStorage = {
	getItem: (name) => stored.get(name) ?? null,
	setItem: (name, value) => stored.set(name, value),
};
Object.assign(globalThis, { sessionStorage });

const api = await import("../../../app/web/api.js");

const respond = (status, body, headers = {}) =>
	new Response(JSON.stringify(body), { status, headers });
const serve = (...responses) => {
	const answer = mock.fn(async (_path, _options) => responses.shift());
	globalThis.fetch = /** @type {any} */ (answer);
	return answer.mock;
};

beforeEach(() => {
	stored.clear();
	api.onKeyNeeded(async () => null);
	api.onUnreachable(() => {});
});

test("an error response carries its code, detail and delay", async () => {
	serve(respond(429, { code: "busy", detail: "Too many requests." }, { "Retry-After": "7" }));
	await assert.rejects(api.listMasters({}), (/** @type {any} */ problem) => {
		assert.deepEqual([problem.status, problem.code, problem.retryAfter], [429, "busy", 7]);
		assert.equal(problem.message, "Too many requests.");
		return problem.temporary;
	});
});

test("a service that does not respond is reported and can be retried", async () => {
	const report = mock.fn();
	api.onUnreachable(report);
	globalThis.fetch = () => Promise.reject(new TypeError("Failed to fetch"));
	await assert.rejects(api.getMaster("1"), (/** @type {any} */ problem) => problem.temporary);
	assert.equal(report.mock.callCount(), 1);
});

test("a cancelled request is not a problem of the service", async () => {
	globalThis.fetch = () => Promise.reject(new DOMException("cancelled", "AbortError"));
	await assert.rejects(api.getMaster("1"), { name: "AbortError" });
});

test("calls that need a key ask once and retry with it", async () => {
	const ask = mock.fn(async () => "secret");
	api.onKeyNeeded(ask);
	const locked = () => respond(401, { code: "unauthorized" });
	const calls = serve(locked(), locked(), respond(200, { id: "1" }), respond(200, { id: "2" }));
	await Promise.all([api.getMaster("1"), api.getMaster("2")]);
	assert.equal(ask.mock.callCount(), 1);
	assert.equal(calls.calls[2].arguments[1].headers.Authorization, "Bearer secret");
});

test("a key without the scope says why it failed", async () => {
	stored.set("lookalike-key", "reader");
	const ask = mock.fn(async (_reason) => null);
	api.onKeyNeeded(ask);
	serve(respond(403, { code: "forbidden", detail: "This needs the scope write." }));
	await assert.rejects(api.deleteMaster("1", {}), { status: 403 });
	assert.deepEqual(ask.mock.calls[0].arguments, ["This needs the scope write."]);
});

test("quiet requests never ask for a key", async () => {
	const ask = mock.fn(async () => "secret");
	api.onKeyNeeded(ask);
	serve(respond(401, {}));
	await assert.rejects(api.listCollections({ quiet: true }), { status: 401 });
	assert.equal(ask.mock.callCount(), 0);
});

test("a response that is not JSON is not taken for the service", async () => {
	serve(new Response("<html>", { status: 200 }));
	await assert.rejects(api.listMasters({}), { status: 502 });
});

test("empty parameters are left out and others are escaped", async () => {
	const calls = serve(respond(200, {}), respond(200, {}));
	await api.listMasters({ collection: "a&b", filter: "", offset: 0 });
	await api.getMaster("a/b");
	const paths = calls.calls.map((call) => call.arguments[0]);
	assert.deepEqual(paths, ["/masters?collection=a%26b&offset=0", "/masters/a%2Fb"]);
});
