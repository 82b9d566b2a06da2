/** The quiet corner: whether all is well, how much is there, which model; and what to do when a store is down. */

import * as api from "./api.js";
import { count, el, find, icon } from "./dom.js";
import * as state from "./state.js";

const SLOW = 15_000;
const FAST = 2_000;
const ADVICE = {
  metadata: "Nothing can be shown or put in until the database answers. See that it runs and can be reached; nothing is lost.",
  objects: "Pictures cannot be shown or put in until the object store answers. See that it runs and can be reached; nothing is lost.",
  vectors: "Searches must wait until the vector store answers. Pictures can still be put in, and are found later.",
  model: "Searches must wait until the model is loaded.",
};
let timer;
let wasDown = false;
let told = { back() {}, counted() {} };

/** Once `look` was called: `back` is told when the service answers again after it did not, `counted` how many pictures there are. */
export function watch(listener) {
  told = listener;
  document.addEventListener("visibilitychange", look);
  api.onTrouble(look);
}

/** Look now. */
export async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  let busy = false;
  try {
    const ready = await api.readiness();
    busy = !ready.ready;
    showProblems(ready);
    if (ready.checks.metadata === "ok") busy = showCounts(ready, await api.collections({ quiet: true })) || busy;
    if (ready.ready && wasDown) {
      wasDown = false;
      told.back();
    }
    wasDown = !ready.ready;
  } catch (problem) {
    if (problem.status === 401 || problem.status === 403) {
      corner("off", "An API key is needed");
      if (wasDown) told.back(); // which asks for it
      wasDown = false;
    } else {
      busy = wasDown = true;
      corner("down", "No answer");
      banner("The service does not answer.", "See that it runs and that you are connected. This page tries again by itself.");
    }
  }
  clearTimeout(timer);
  timer = setTimeout(look, busy ? FAST : SLOW);
}

function showCounts(ready, { collections, pending }) {
  const { collection } = state.current();
  const masters = collections.find((found) => found.name === collection)?.masters ?? 0;
  told.counted(masters);
  const parts = [count(masters, "picture")];
  if (pending) parts.push(`${count(pending, "embedding")} to come`);
  corner(ready.ready ? "well" : "down", parts.join(" · "), ready.model_version);
  return pending > 0;
}

function showProblems(ready) {
  const [store, reason] = Object.entries(ready.checks).find(([, check]) => check !== "ok") ?? [];
  if (!store) {
    find("#banner").hidden = true;
    return;
  }
  corner("down", "Not all is well", ready.model_version);
  banner(`${reason[0].toUpperCase()}${reason.slice(1)}.`, ADVICE[store] ?? "");
}

function corner(health, text, model = "") {
  const words = { well: "All is well", down: "Something is wrong", off: "Locked" };
  find("#status").replaceChildren(
    el("span", { class: `dot ${health}`, role: "img", "aria-label": words[health], title: words[health] }),
    el("span", { text }),
    model && el("span", { class: "model", title: "Model version", text: model }),
  );
}

function banner(what, advice) {
  const text = `${what} ${advice}`;
  if (!find("#banner").hidden && find("#banner").dataset.text === text) return; // not said again and again
  find("#banner").dataset.text = text;
  find("#banner").hidden = false;
  find("#banner").replaceChildren(icon("alert"), el("p", {}, el("strong", { text: what }), " ", advice));
}
