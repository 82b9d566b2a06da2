/** The HTTP API of the service: sends the key and turns error responses into `Problem`. */

const KEY = "lookalike-key";
const READY_TIMEOUT = 20_000; // milliseconds
const KEY_NEEDED = "This service needs an API key.";
let keyDialog = null; // the open request for a key, shared by all calls
/** @type {(reason: string) => Promise<string | null>} */
let askForKey = async () => null;
let reportUnreachable = () => {};

/** An error response (RFC 9457). `status` is 0 if there was no response. */
export class Problem extends Error {
	/** @param {{status?: number, code?: string, detail?: string}} problem */
	constructor({ status = 0, code = "unreachable", detail }, retryAfter = 0) {
		super(detail ?? "The service is not responding. Check your connection and retry.");
		this.status = status;
		this.code = code;
		this.retryAfter = retryAfter; // seconds
	}
	get temporary() {
		return [0, 408, 429, 503].includes(this.status);
	}
}

/**
 * Registers how to ask the user for a key.
 * @param {(reason: string) => Promise<string | null>} ask `reason`: why the last key failed, or ""
 */
export function onKeyNeeded(ask) {
	askForKey = ask;
}

/** Registers what to call when the service does not respond or is unavailable. */
export function onUnreachable(report) {
	reportUnreachable = report;
}

export const key = () => sessionStorage.getItem(KEY);

/** @returns {Record<string, string>} */
function authorization() {
	return key() ? { Authorization: `Bearer ${key()}` } : {};
}

/**
 * Returns whether there is a key to retry with after `used` was rejected.
 * @param {string | null} used
 * @param {Problem} problem
 */
async function obtainKey(used, { status, code, message }) {
	if (status !== 401 && code !== "forbidden") return false;
	if (key() !== used) return true; // another call has obtained one in the meantime
	let reason = used === null ? "" : "That key was not accepted. Check it and retry.";
	if (code === "forbidden") reason = message;
	keyDialog ??= askForKey(reason).finally(() => {
		keyDialog = null;
	});
	const given = await keyDialog;
	if (given) sessionStorage.setItem(KEY, given);
	return Boolean(given);
}

/**
 * Sends a request and returns the response. Asks for a key where one is needed, unless `quiet`.
 * Raises `Problem`.
 * @param {string} path
 * @param {RequestInit & {quiet?: boolean}} options
 */
export async function request(path, { quiet = false, ...options } = {}) {
	const used = key();
	const headers = { ...options.headers, ...authorization() };
	let response;
	try {
		response = await fetch(path, { cache: "no-store", ...options, headers });
	} catch (error) {
		if (error.name === "AbortError") throw error;
		if (!quiet) reportUnreachable();
		throw new Problem({});
	}
	if (response.ok) return response;
	if (response.status === 503 && !quiet) reportUnreachable();
	const body = await response.json().catch(() => null);
	const problem = problemOf(response.status, body, response.headers.get("Retry-After"));
	if (!quiet && (await obtainKey(used, problem))) return request(path, options);
	throw problem;
}

function problemOf(status, body, retryAfter) {
	const unknown = `The service responded with status ${status}. Retry, or check its log.`;
	const detail = status === 401 ? KEY_NEEDED : (body?.detail ?? unknown);
	return new Problem({ status, code: body?.code, detail }, Number(retryAfter) || 0);
}

const json = async (path, options = {}) => {
	const response = await request(path, options);
	return response.json().catch((error) => {
		if (error.name === "AbortError") throw error;
		const detail = "The response is not from Lookalike. Check the address and any proxy.";
		throw new Problem({ status: 502, detail });
	});
};

function withBody(method, body) {
	return { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

const given = (values) => Object.entries(values).filter(([, value]) => (value ?? "") !== "");
const query = (path, values) => `${path}?${new URLSearchParams(given(values))}`;

function form(values) {
	const data = new FormData();
	for (const [name, value] of given(values)) {
		for (const each of [value].flat()) data.append(name, each);
	}
	return data;
}

const masterPath = (id) => `/masters/${encodeURIComponent(id)}`;
const collectionPath = (name) => `/collections/${encodeURIComponent(name)}`;

export const listMasters = (values, signal) => json(query("/masters", values), { signal });
/** @returns {Promise<Master>} */
export const getMaster = (id) => json(masterPath(id));
/**
 * Changes a master as it was seen. Raises `Problem` with the code "precondition-failed" if it has
 * been changed since.
 * @param {{id: string, revision: number}} seen
 * @returns {Promise<Master>}
 */
export const updateMaster = ({ id, revision }, changes) => {
	const options = withBody("PATCH", changes);
	const headers = { ...options.headers, "If-Match": `"${revision}"` };
	return json(masterPath(id), { ...options, headers });
};
export const deleteMaster = (id, options) =>
	request(masterPath(id), { method: "DELETE", ...options });
export const search = (fields, signal) =>
	json("/search", { method: "POST", body: form(fields), signal });
/** @returns {Promise<{sample: ExplainedImage, master: ExplainedImage}>} */
export const explain = (fields, signal) =>
	json("/explain", { method: "POST", body: form(fields), signal });
/** Returns how many masters match a filter. */
export const countMasters = async (collection, filter) => {
	const path = query("/masters", { collection, filter, dry_run: true });
	return (await json(path, { method: "DELETE" })).matched;
};
/** Deletes the masters that match; `confirm` is their number. */
export const deleteMasters = (values, progress) =>
	events(query("/masters", values), { method: "DELETE" }, progress);
/** Brings the masters of a deletion back. */
export const undoDeletion = (id, progress = () => {}) =>
	events(`/deletions/${encodeURIComponent(id)}/undo`, { method: "POST" }, progress);
/** Changes the attributes of the masters that match. */
export const changeMasters = (change, progress) =>
	events("/masters", withBody("PATCH", change), progress);

/** Calls `progress(done, total)` for each line of a stream, and returns the result of the last. */
async function events(path, options, progress) {
	const { body } = await request(path, options);
	const reader = /** @type {any} */ (body).pipeThrough(new TextDecoderStream()).getReader();
	let rest = "";
	let result = null;
	for (let read = await reader.read(); !read.done; read = await reader.read()) {
		const lines = (rest + read.value).split("\n");
		rest = lines.pop() ?? "";
		for (const event of lines.map((line) => JSON.parse(line))) {
			if (event.error) throw new Problem(event.error);
			if (event.result) result = event.result;
			else progress(event.done, event.total);
		}
	}
	if (!result) throw new Problem({});
	return result;
}
const duplicatesPath = (name) => `${collectionPath(name)}/duplicates`;
/** Starts a scan for duplicates, or returns the one there is. @returns {Promise<Scan>} */
export const startScan = (collection, other) =>
	json(duplicatesPath(collection), withBody("POST", { with: other || null }));
/** @returns {Promise<{scan: Scan, groups: DuplicateGroup[], undo_hours: number, next_cursor: string | null}>} */
export const listDuplicates = (collection, { against, ...values }, signal) =>
	json(query(duplicatesPath(collection), { with: against, ...values }), { signal });
export const stopScan = (collection, other) =>
	request(query(duplicatesPath(collection), { with: other }), { method: "DELETE" });
/** Returns what resolving groups of duplicates would do. */
export const previewResolution = (collection, resolution) =>
	json(`${duplicatesPath(collection)}/resolve`, withBody("POST", { ...resolution, dry_run: true }));
/** Deletes all but one master of each group. */
export const resolveDuplicates = (collection, resolution, progress = () => {}) =>
	events(`${duplicatesPath(collection)}/resolve`, withBody("POST", resolution), progress);
const DECISIONS = "/duplicates/decisions";
export const decide = (masters, decision) =>
	request(DECISIONS, withBody("POST", { masters, decision }));
export const takeBackDecision = (masters) => request(DECISIONS, withBody("DELETE", { masters }));
/** @returns {Promise<{spaces: Space[]}>} */
export const listSpaces = (options = {}) => json("/spaces", options);
/** @returns {Promise<{collections: Collection[], pending: number}>} */
export const listCollections = (options = {}) => json("/collections", options);
/** @returns {Promise<{masters: number, pending: number, dead_letters: number, unread: number}>} */
export const getStats = (options = {}) => json("/stats", options);
export const createCollection = (name) => json("/collections", withBody("POST", { name }));
export const deleteCollection = (name) => {
	const confirm = encodeURIComponent(name);
	return request(`${collectionPath(name)}?confirm=${confirm}`, { method: "DELETE" });
};
/**
 * @param {AbortSignal} [signal]
 * @returns {Promise<{attributes: Summary[], fields: Summary[], masters: number}>}
 */
export const listAttributes = (name, signal) =>
	json(`${collectionPath(name)}/attributes`, { signal });
/** @returns {Promise<Months>} */
export const listMonths = (name, filter) =>
	json(query(`${collectionPath(name)}/timeline`, { filter }));

/** Returns the body of /readyz, whether the service is ready or not. */
export async function getReadiness() {
	const signal = AbortSignal.timeout(READY_TIMEOUT);
	const response = await fetch("/readyz", { signal }).catch(() => null);
	const body = await response?.json().catch(() => null);
	if (!body?.checks) throw new Problem({});
	return body;
}

/**
 * Uploads one file and resolves to its result. Uses XMLHttpRequest because fetch does not report
 * how much has been sent.
 * @param {File} file
 */
export function upload(file, fields, { signal, progress }) {
	const used = key();
	return new Promise((resolve, reject) => {
		const xhr = new XMLHttpRequest();
		const abort = () => xhr.abort();
		xhr.open("POST", "/masters");
		for (const header of Object.entries(authorization())) xhr.setRequestHeader(...header);
		xhr.responseType = "json";
		xhr.upload.onprogress = (event) => progress(event.loaded);
		xhr.onload = async () => {
			signal.removeEventListener("abort", abort);
			const result = xhr.response?.results?.[0];
			if (result?.master) return resolve(result);
			const retryAfter = xhr.getResponseHeader("Retry-After");
			const problem = problemOf(xhr.status, result?.error ?? xhr.response, retryAfter);
			if (await obtainKey(used, problem))
				return resolve(upload(file, fields, { signal, progress }));
			reject(problem);
		};
		xhr.onerror = () => reject(new Problem({}));
		xhr.onabort = () => reject(new DOMException("cancelled", "AbortError"));
		signal.addEventListener("abort", abort);
		xhr.send(form({ ...fields, name: file.name, file }));
	});
}
