/** The service over HTTP: every call, with the key and with its errors in words. */

const KEY = "lookalike-key";
const PATIENCE = 20_000; // milliseconds, for whether all is well
const LOCKED = "This service needs an API key.";
let asked = null; // one question for the key at a time
let askForKey = async () => null;
let seeWhatIsWrong = () => {};

/** An answer that is an error (RFC 9457), or none at all: `status` 0. */
export class Problem extends Error {
  constructor({ status = 0, code = "unreachable", detail }, retryAfter = 0) {
    super(detail ?? "The service does not answer.");
    Object.assign(this, { status, code, retryAfter });
  }
  get passing() {
    return [0, 408, 429, 503].includes(this.status);
  }
}

/** `ask(reason)` gives the key that somebody typed, or null; `reason`: why the one that was sent does not do, or "". */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Told when the service did not answer or could not. */
export function onTrouble(look) {
  seeWhatIsWrong = look;
}

export const key = () => sessionStorage.getItem(KEY);

function headers() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

/** Whether there is another key to try than the one used, which was refused. */
async function newKey(used, { status, code, message }) {
  if (status !== 401 && code !== "forbidden") return false;
  if (key() !== used) return true; // another call has asked meanwhile
  const reason = code === "forbidden" ? message : used !== null ? "That key was not taken." : "";
  asked ??= askForKey(reason).finally(() => (asked = null));
  const given = await asked;
  if (given) sessionStorage.setItem(KEY, given);
  return Boolean(given);
}

/** The response; raises Problem. Asks for the key where one is needed, unless `quiet`. */
export async function request(path, { quiet = false, ...options } = {}) {
  const used = key();
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers: { ...options.headers, ...headers() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!quiet) seeWhatIsWrong();
    throw new Problem({});
  }
  if (response.ok) return response;
  if (response.status === 503 && !quiet) seeWhatIsWrong();
  const problem = await problemOf(response);
  if (!quiet && (await newKey(used, problem))) return request(path, options);
  throw problem;
}

async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  const detail = response.status === 401 ? LOCKED : (told.detail ?? `The service answered ${response.status}.`);
  return new Problem({ status: response.status, code: told.code, detail }, Number(response.headers.get("Retry-After")) || 0);
}

const json = async (path, options) => {
  const response = await request(path, options);
  return response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 502, detail: "What answered is not the service." });
  });
};

function sent(method, body, options = {}) {
  return { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options };
}

function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `${path}?${new URLSearchParams(given)}`;
}

function form(values) {
  const data = new FormData();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "") data.append(name, value);
  }
  return data;
}

export const masters = (given, signal) => json(query("/masters", given), { signal });
export const master = (id, signal) => json(`/masters/${encodeURIComponent(id)}`, { signal });
export const change = (id, what) => json(`/masters/${encodeURIComponent(id)}`, sent("PATCH", what));
export const remove = (id, options) => request(`/masters/${encodeURIComponent(id)}`, { method: "DELETE", ...options });
export const search = (fields, signal) => json("/search", { method: "POST", body: form(fields), signal });
export const collections = (options) => json("/collections", options);
export const createCollection = (name) => json("/collections", sent("POST", { name }));
export const deleteCollection = (name) => {
  const encoded = encodeURIComponent(name);
  return request(`/collections/${encoded}?confirm=${encoded}`, { method: "DELETE" });
};
export const attributes = (name, signal) => json(`/collections/${encodeURIComponent(name)}/attributes`, { signal });

/** What /readyz says, ready or not. */
export async function readiness() {
  const response = await fetch("/readyz", { signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
  const told = await response?.json().catch(() => null);
  if (!told?.checks) throw new Problem({});
  return told;
}

/** Put one file in; by XMLHttpRequest, because fetch does not say how much is sent. Resolves to its result. */
export function putIn(file, fields, { signal, progress }) {
  const used = key();
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const abort = () => sending.abort();
    sending.open("POST", "/masters");
    for (const [header, value] of Object.entries(headers())) sending.setRequestHeader(header, value);
    sending.responseType = "json";
    sending.upload.onprogress = (event) => progress(event.loaded);
    sending.onload = async () => {
      signal.removeEventListener("abort", abort);
      const result = sending.response?.results?.[0];
      if (result?.master) return resolve(result);
      const told = result?.error ?? sending.response ?? {};
      const retryAfter = Number(sending.getResponseHeader("Retry-After")) || 0;
      const detail = sending.status === 401 ? LOCKED : (told.detail ?? `The service answered ${sending.status}.`);
      const problem = new Problem({ ...told, detail, status: sending.status }, retryAfter);
      if (await newKey(used, problem)) return resolve(putIn(file, fields, { signal, progress }));
      reject(problem);
    };
    sending.onerror = () => reject(new Problem({}));
    sending.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", abort);
    sending.send(form({ ...fields, name: file.name, file }));
  });
}
