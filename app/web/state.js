/** The state of the page, kept in the URL so that a link shows the same. */

export const EVEN = 0.5; // words and picture count the same

/** What ends a search. */
export const NO_SEARCH = {
	text: "",
	weight: EVEN,
	space: "",
	like: "",
	sample: null,
	box: "",
	mirror: false,
	turns: false,
	more: [],
	less: [],
	group: "",
	fold: false,
};

const changes = new EventTarget();
/** @type {Map<string, Sample>} */
const samples = new Map(); // a file does not fit into a URL; it is kept for this tab only

/** @returns {State} */
export function current() {
	const query = new URLSearchParams(location.search);
	const sample = samples.get(history.state?.sample) ?? null;
	return {
		collection: query.get("collection") || "default",
		filter: query.get("filter") || "",
		sort: query.get("sort") || "",
		text: query.get("text") || "",
		weight: shareOf(query.get("weight")),
		space: query.get("space") || "",
		like: sample ? "" : query.get("like") || "",
		box: query.get("box") || "",
		mirror: query.get("mirror") === "1",
		turns: query.get("turns") === "1",
		more: listOf(query.get("more")),
		less: listOf(query.get("less")),
		group: query.get("group") || "",
		fold: query.get("fold") === "1",
		view: query.get("view") === "duplicates" ? "duplicates" : "",
		against: query.get("with") || "",
		master: query.get("master") || "",
		sample,
	};
}

/** @param {string | null} text */
const listOf = (text) => (text ? [...new Set(text.split(","))] : []);

/** @param {string | null} text */
function shareOf(text) {
	const share = Number(text || EVEN);
	return share >= 0 && share <= 1 ? share : EVEN;
}

/** @param {State} state */
export const hasPicture = ({ like, sample }) => Boolean(like || sample);

/** @param {State} state */
export const isSearch = (state) => hasPicture(state) || Boolean(state.text);

/** @param {State} state */
export const isReview = (state) => state.view === "duplicates" && !isSearch(state);

/**
 * Returns the URL of a state, without the default values.
 * @param {State} state
 */
export function urlOf(state) {
	const picture = hasPicture(state);
	const both = picture && state.text;
	const shown = {
		collection: state.collection === "default" ? "" : state.collection,
		filter: state.filter,
		sort: state.sort,
		text: state.text,
		weight: both && state.weight !== EVEN ? String(state.weight) : "",
		space: isSearch(state) ? state.space : "",
		like: state.like,
		box: picture ? state.box : "",
		mirror: picture && state.mirror ? "1" : "",
		turns: picture && state.turns ? "1" : "",
		more: isSearch(state) ? state.more.join(",") : "",
		less: isSearch(state) ? state.less.join(",") : "",
		group: isSearch(state) ? state.group : "",
		fold: isSearch(state) && state.fold ? "1" : "",
		view: isReview(state) ? state.view : "",
		with: isReview(state) ? state.against : "",
		master: state.master,
	};
	const query = new URLSearchParams(Object.entries(shown).filter(([, value]) => value));
	return query.size ? `/?${query}` : "/";
}

/**
 * Changes a part of the state. With `replace`, the history gets no new entry.
 * @param {Partial<State>} changed
 */
export function update(changed, { replace = false } = {}) {
	const next = { ...current(), ...changed };
	if (changed.sample) next.like = "";
	else if (changed.like) next.sample = null;
	const entry = { sample: next.sample ? keyOf(next.sample) : null };
	if (replace) history.replaceState(entry, "", urlOf(next));
	else history.pushState(entry, "", urlOf(next));
	changes.dispatchEvent(new Event("change"));
}

export function onChange(listener) {
	changes.addEventListener("change", listener);
	addEventListener("popstate", listener);
}

/** @param {Sample} sample */
function keyOf(sample) {
	for (const [key, known] of samples) if (known === sample) return key;
	const key = `${performance.timeOrigin} ${samples.size}`; // not valid after a reload
	samples.set(key, sample);
	return key;
}
