/** The page: what is in the URL, put on the screen by the parts. */

import * as api from "./api.js";
import { Browse } from "./browse.js";
import { Collections } from "./collections.js";
import { Compare } from "./compare.js";
import { deleteSoon, onDeletion, undo } from "./deletion.js";
import { Detail } from "./detail.js";
import { el, find } from "./dom.js";
import { dropped, isImage, isMany } from "./files.js";
import { Filters } from "./filters.js";
import { Hits } from "./hits.js";
import { askForKey } from "./key.js";
import { PutIn } from "./putin.js";
import { Sample } from "./sample.js";
import * as state from "./state.js";
import { look, watch } from "./status.js";
import { toast } from "./toasts.js";

const actions = {
  href: (master) => {
    const query = new URLSearchParams(location.search);
    query.set("master", master.id);
    return `/?${query}`;
  },
  open: (master) => state.set({ master: master.id }),
  like: (master) => state.set({ like: master.id, sample: null, box: "", master: "", collection: master.collection }),
  compare: (hit) => compare.show(hit),
  shown: () => document.body.setAttribute("data-ready", ""),
  empty: () => [
    el("h2", { text: "No pictures here yet" }),
    el("p", { text: "Put some in, then show one: the service finds what looks like it." }),
    el("button", { type: "button", class: "primary", text: "Put pictures in", on: { click: () => putIn.open() } }),
  ],
  nothingMatches: () => [
    el("h2", { text: "Nothing matches the filter" }),
    el("button", { type: "button", text: "Clear the filter", on: { click: () => state.set({ filter: "" }) } }),
  ],
};

const browse = new Browse(actions);
const hits = new Hits(actions);
const sample = new Sample((box) => state.set({ box }, { replace: true }));
const compare = new Compare(() => hits.shown);
const filters = new Filters();
const collections = new Collections({ changed: renew });
const detail = new Detail({ like: actions.like, changed: renew });
const putIn = new PutIn({ done: renew, open: actions.open });

let shown = {};

function show() {
  const focused = document.activeElement;
  const other = shown.collection !== state.current().collection;
  const now = (shown = state.current());
  document.title = now.collection === "default" ? "Lookalike" : `${now.collection} · Lookalike`;
  collections.show(now);
  filters.show(now);
  detail.show(now);
  find("#mirror").checked = now.mirror;
  const searching = Boolean(now.sample || now.like);
  document.body.dataset.view = searching ? "search" : "browse";
  find("#sample").hidden = find("#hits").hidden = find("#end-search").hidden = !searching;
  find("#masters").hidden = find("#invitation").hidden = searching;
  if (searching) browse.hide();
  else {
    hits.hide();
    compare.hide();
  }
  find("#more").hidden ||= !searching;
  const showing = searching ? showHits(now) : browse.show(now);
  if (other) setTimeout(look, 300); // the pictures first
  if (focused !== document.body && document.activeElement === document.body) find("#results").focus({ preventScroll: true });
  return showing;
}

async function showHits(now) {
  const showing = hits.show(now);
  if (now.sample) sample.show(now.sample, null, now.box);
  else await showMaster(now, showing);
  await showing;
}

async function showMaster(now, showing) {
  if (now.like !== sample.shown) sample.clear();
  try {
    const master = await api.master(now.like);
    if (now === shown) sample.show(null, master, now.box);
  } catch (problem) {
    await showing;
    if (now !== shown) return; // something else is to be shown by now
    find("#sample").hidden = problem.status === 404 || problem.status === 422;
    if (find("#sample").hidden) hits.fail({ status: 404, message: "The picture to search by is not there any more, or the link is cut off." });
    else sample.missing();
  }
}

/** The masters are not those they were. */
function renew() {
  const now = state.current();
  look();
  filters.renew();
  if (now.sample || now.like) hits.renew();
  else browse.show(now, { again: true });
}

function searchWith(file) {
  if (!isImage(file)) return toast("That is no picture the service knows. Show a JPEG, PNG, WebP, GIF, BMP, AVIF or HEIC.", { error: true });
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  state.set({ sample: { file }, box: "", master: "" });
}

// samples: chosen, photographed, pasted

for (const id of ["#choose", "#choose-another", "#photograph"]) {
  find(id).addEventListener("change", ({ target }) => {
    if (target.files[0]) searchWith(target.files[0]);
    target.value = "";
  });
}

addEventListener("paste", async (event) => {
  if (event.target.closest?.("input, textarea") || ![...event.clipboardData.items].some((item) => item.kind === "file")) return;
  event.preventDefault();
  const [pasted] = await dropped(event.clipboardData);
  if (pasted) searchWith(pasted.file);
});

// dropped anywhere: one picture is a sample or a master, more are masters

let depth = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
const zones = find("#zones");
const leave = () => {
  depth = 0;
  zones.hidden = true;
};

addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  if (depth++ === 0) {
    (find("dialog[open]") ?? document.body).append(zones);
    zones.hidden = false;
  }
});
addEventListener("dragleave", (event) => carriesFiles(event) && --depth <= 0 && leave());
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  const asSample = !find("#put-in").open && !event.target.closest?.("#zone-put-in") && !isMany(event.dataTransfer);
  const coming = dropped(event.dataTransfer);
  leave();
  const found = await coming;
  if (!found.length) return toast("There is nothing in it to put in.");
  if (asSample) searchWith(found[0].file);
  else putIn.add(found);
});

// the rest

find(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // an address of its own would end a search by a file
  find("#results").focus();
});
find("#mirror").addEventListener("change", ({ target }) => state.set({ mirror: target.checked }, { replace: true }));
find("#end-search").addEventListener("click", () => state.set({ like: "", sample: null, box: "", mirror: false }));
find("#home").addEventListener("click", (event) => {
  event.preventDefault();
  state.set({ like: "", sample: null, box: "", mirror: false, master: "", filter: "" });
});
for (const closing of document.querySelectorAll("dialog .close")) {
  closing.addEventListener("click", () => closing.closest("dialog").close());
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("pointerdown", ({ target, clientX: x, clientY: y }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    if (target === dialog && (x < left || x > right || y < top || y > bottom)) dialog.close();
  });
}
onDeletion({
  changed() {
    for (const grid of [browse.grid, hits.grid]) grid.refresh();
  },
  gone(id) {
    look();
    if (state.current().master === id) state.set({ master: "" }, { replace: true });
    if (document.body.dataset.view === "browse") browse.show(state.current(), { again: true });
    else hits.without(id);
  },
});
addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && !event.target.closest?.("input")) return undo();
  if (event.key !== "Delete" || !event.target.closest?.(".cell")) return;
  const index = Number(event.target.closest(".cell").dataset.index);
  const item = document.body.dataset.view === "search" ? hits.shown[index]?.master : browse.item(index);
  if (item) deleteSoon(item);
});

api.onKeyNeeded(askForKey);
state.onChange(show);
watch({
  back() {
    for (const grid of [browse.grid, hits.grid]) grid.retry();
    renew();
  },
  counted(masters) {
    const now = state.current();
    if (document.body.dataset.view === "browse" && !now.filter && browse.total !== masters) browse.show(now, { again: true });
  },
});
show();
