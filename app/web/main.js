/** The entry point: connects the URL, the parts of the page, and the events of the window. */

import * as api from "./api.js";
import { Arranging } from "./arranging.js";
import { Browse } from "./browse.js";
import { Bulk } from "./bulk.js";
import { followLink } from "./cards.js";
import { Collections } from "./collections.js";
import { Compare } from "./compare.js";
import { onDeletion, scheduleDeletion, undoDeletion } from "./deletion.js";
import { Detail } from "./detail.js";
import { el, find } from "./dom.js";
import { Duplicates } from "./duplicates.js";
import { Facets } from "./facets.js";
import { droppedFiles, hasSeveral, isImage } from "./files.js";
import { Filters } from "./filters.js";
import { Hits } from "./hits.js";
import { askForKey } from "./key.js";
import { forget, Refinements } from "./refine.js";
import { SamplePanel } from "./sample.js";
import { SearchBox } from "./searchbox.js";
import { Sorting } from "./sorting.js";
import * as state from "./state.js";
import { checkStatus, watchStatus } from "./status.js";
import { Timeline } from "./timeline.js";
import { showToast } from "./toasts.js";
import { Uploads } from "./upload.js";

const REVIEW = { ...state.NO_SEARCH, view: "duplicates", against: "", master: "" };
const VIEWS = ["mirror", "turns"]; // switches, and the parts of the state that they set

const action = (text, click, kind = "") =>
	el("button", { type: "button", class: kind, text, on: { click } });

const actions = {
	href: (master) => {
		const query = new URLSearchParams(location.search);
		query.set("master", master.id);
		return `/?${query}`;
	},
	open: (master) => state.update({ master: master.id }),
	like: ({ id, collection }) => {
		const text = searchBox.words; // a picture refines them
		const picture = { like: id, sample: null, box: "", more: [], less: [] };
		state.update({ ...picture, text, master: "", collection });
	},
	compare: (hit) => compare.show(hit),
	answered(answer) {
		searchBox.advise(answer);
		sample.warn(answer.warnings);
	},
	shown({ reload = false } = {}) {
		document.body.setAttribute("data-ready", "");
		timeline.load({ reload }); // the pictures come first
	},
	empty: () => [
		el("h2", { text: "No pictures here yet" }),
		el("p", {
			text: "Add some pictures first. Then search by words, or with a picture to find similar ones.",
		}),
		action("Add pictures", () => uploads.open(), "primary"),
	],
	noMatches: () => [
		el("h2", { text: "No pictures match the filter" }),
		action("Clear the filter", () => state.update({ filter: "" })),
	],
};

const searchBox = new SearchBox(() => hits.reload());
const browse = new Browse(actions);
const facets = new Facets(() => state.isSearch(state.current()) && hits.reload());
const arranging = new Arranging();
const hits = new Hits(actions, facets);
const sample = new SamplePanel((box) => state.update({ box }, { replace: true }));
const compare = new Compare(() => hits.shown.filter((hit) => !hit.folded));
const refinements = new Refinements();
const filters = new Filters();
const sorting = new Sorting();
const timeline = new Timeline();
const collections = new Collections({ changed: reload });
const bulk = new Bulk({ changed: reload });
const duplicates = new Duplicates({ changed: () => checkStatus() });
const detail = new Detail({ findSimilar: actions.like, changed: reload });
const uploads = new Uploads({ done: reload, open: actions.open });
const grids = [browse.grid, hits.grid];

/** @type {State | null} */
let shown = null;

function show() {
	const focused = document.activeElement;
	const now = state.current();
	const other = shown?.collection !== now.collection;
	shown = now;
	const titles = [now.text, now.collection === "default" ? "" : now.collection, "Lookalike"];
	document.title = titles.filter(Boolean).join(" · ");
	searchBox.show(now);
	collections.show(now);
	filters.show(now);
	sorting.show(now);
	detail.show(now);
	refinements.show(now);
	arranging.show(now);
	facets.show(now);
	for (const name of VIEWS) find(`#${name}`).checked = now[name];
	const searching = state.isSearch(now);
	const reviewing = state.isReview(now);
	bulk.show(now, searching);
	document.body.dataset.view = searching ? "search" : now.view || "browse";
	find("#open-duplicates").setAttribute("href", state.urlOf({ ...now, ...REVIEW }));
	find("#end-review").hidden = !reviewing;
	if (!reviewing) duplicates.hide();
	document.body.toggleAttribute("data-picture", state.hasPicture(now));
	for (const id of ["#sample", "#hits", "#end-search"]) find(id).hidden = !searching;
	for (const id of ["#masters", "#sorting"]) find(id).hidden = searching || reviewing;
	if (reviewing) {
		hits.hide();
		compare.hide();
		browse.hide();
		timeline.hide();
		duplicates.show(now);
	} else if (!searching) {
		hits.hide();
		compare.hide();
		find("#more").hidden = true;
		timeline.show(now);
		browse.show(now);
	} else {
		browse.hide();
		timeline.hide();
		showHits(now);
	}
	if (other) setTimeout(checkStatus, 300); // the pictures come first
	if (focused !== document.body && document.activeElement === document.body) {
		find("#results").focus({ preventScroll: true });
	}
}

/** @param {State} now */
async function showHits(now) {
	const searching = hits.show(now);
	searchBox.showPicture(now.sample, null);
	if (now.sample) return sample.show(now.sample, null, now.box);
	if (now.like !== sample.shown) sample.clear();
	if (!now.like) return;
	try {
		const master = await api.getMaster(now.like);
		if (now !== shown) return;
		sample.show(null, master, now.box);
		searchBox.showPicture(null, master);
	} catch (problem) {
		await searching;
		if (now !== shown) return;
		const gone = problem.status === 404 || problem.status === 422;
		find("#sample").hidden = gone;
		if (!gone) return sample.showMissing();
		const message = "The search picture no longer exists, or the link is incomplete.";
		hits.fail({ status: 404, message });
	}
}

/** Reloads what is shown, because the masters have changed. */
function reload() {
	const now = state.current();
	checkStatus();
	filters.reload();
	if (state.isSearch(now)) {
		facets.load();
		hits.reload();
	} else if (state.isReview(now)) duplicates.reload();
	else browse.show(now, { reload: true });
}

/** @param {File} file */
function searchWith(file) {
	if (!isImage(file)) {
		const types = "JPEG, PNG, WebP, GIF, BMP, AVIF, TIFF, HEIC, JPEG XL or camera raw";
		const text = `“${file.name}” is not a supported picture. Choose a ${types} file.`;
		return showToast(text, { error: true });
	}
	for (const dialog of document.querySelectorAll("dialog")) dialog.close();
	const picture = { sample: { file }, box: "", more: [], less: [] };
	state.update({ ...picture, text: searchBox.words, master: "" });
}

// Search pictures: chosen, taken with the camera, or pasted

for (const id of ["#choose", "#camera"]) {
	find(id).addEventListener("change", ({ target }) => {
		if (target.files[0]) searchWith(target.files[0]);
		target.value = "";
	});
}

addEventListener("paste", async (/** @type {any} */ event) => {
	const items = [...event.clipboardData.items];
	const hasText = items.some(({ type }) => type === "text/plain");
	const field = event.target.closest?.("input, textarea");
	if (field && (field.id !== "words" || hasText)) return;
	if (!items.some(({ kind }) => kind === "file")) return;
	event.preventDefault();
	const [pasted] = await droppedFiles(event.clipboardData);
	if (pasted) searchWith(pasted.file);
});

// Files dropped anywhere: one picture is searched with or added, several are added

let depth = 0;
const zones = find("#zones");
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
const hideZones = () => {
	depth = 0;
	zones.hidden = true;
};

addEventListener("dragenter", (event) => {
	if (!hasFiles(event)) return;
	event.preventDefault();
	if (depth++ === 0) {
		(find("dialog[open]") ?? document.body).append(zones);
		zones.hidden = false;
	}
});
addEventListener("dragleave", (event) => {
	if (hasFiles(event) && --depth <= 0) hideZones();
});
addEventListener("dragover", (event) => {
	if (hasFiles(event)) event.preventDefault();
});
addEventListener("drop", async (/** @type {any} */ event) => {
	if (!hasFiles(event)) return;
	event.preventDefault();
	const adding = find("#upload").open || event.target.closest?.("#zone-upload");
	const searching = !adding && !hasSeveral(event.dataTransfer);
	const reading = droppedFiles(event.dataTransfer);
	hideZones();
	const found = await reading;
	if (!found.length) {
		showToast("The dropped folder has no files. Drop pictures, or folders with pictures.");
	} else if (searching) searchWith(found[0].file);
	else uploads.add(found);
});

// Links, buttons and keys

find(".skip").addEventListener("click", (event) => {
	event.preventDefault(); // a URL with #results would end a search with a file
	find("#results").focus();
});
for (const name of VIEWS) {
	find(`#${name}`).addEventListener("change", ({ target }) =>
		state.update({ [name]: target.checked }, { replace: true }),
	);
}
find("#end-search").addEventListener("click", () => state.update(state.NO_SEARCH));
find("#open-duplicates").addEventListener("click", (event) =>
	followLink(event, () => state.update(REVIEW)),
);
find("#end-review").addEventListener("click", () => state.update({ view: "", against: "" }));
find("#home").addEventListener("click", (event) => {
	event.preventDefault();
	state.update({ ...state.NO_SEARCH, view: "", master: "", filter: "", sort: "" });
});
for (const dialog of document.querySelectorAll("dialog")) {
	dialog.querySelector(".close")?.addEventListener("click", () => dialog.close());
	dialog.addEventListener("pointerdown", ({ target, clientX: x, clientY: y }) => {
		const { left, right, top, bottom } = dialog.getBoundingClientRect();
		const outside = x < left || x > right || y < top || y > bottom;
		if (target === dialog && outside) dialog.close();
	});
}
onDeletion({
	changed() {
		for (const grid of grids) grid.refresh();
	},
	deleted(id) {
		checkStatus();
		forget(id);
		const now = state.current();
		if (now.master === id) state.update({ master: "" }, { replace: true });
		if (state.isSearch(now)) hits.without(id);
		else if (state.isReview(now)) duplicates.without(id);
		else browse.show(now, { reload: true });
	},
});
addEventListener("keydown", (/** @type {any} */ event) => {
	if (event.key === "z" && (event.ctrlKey || event.metaKey) && !event.target.closest?.("input")) {
		return undoDeletion();
	}
	const cell = event.key === "Delete" && event.target.closest?.(".cell");
	if (!cell) return;
	const index = Number(cell.dataset.index);
	const searching = document.body.dataset.view === "search";
	const master = searching ? hits.shown[index]?.master : browse.item(index);
	if (master) scheduleDeletion(master);
});

api.onKeyNeeded(askForKey);
state.onChange(show);
watchStatus({
	recovered() {
		for (const grid of grids) grid.retry();
		reload();
		searchBox.loadSpaces({ quiet: true });
	},
	counted: (masters) => browse.onCount(masters),
});
show();
setTimeout(() => searchBox.loadSpaces(), 300); // the pictures come first
