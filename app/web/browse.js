/** All masters of a collection, newest first; pages are fetched where the window is, and far ones forgotten. */

import * as api from "./api.js";
import { card, dispose, look } from "./cards.js";
import { announce, count, el, find } from "./dom.js";
import { Grid } from "./grid.js";
import { failed } from "./toasts.js";

const PAGE = 100;
const KEPT = 80; // pages

export class Browse {
  constructor(actions) {
    this.actions = actions;
    this.pages = new Map();
    this.asked = new Set(); // of the pages, those that are not to be asked for again
    this.grid = new Grid(find("#masters"), {
      render: (master, index, width) => card(master, width, actions),
      dispose,
      item: (index) => this.item(index),
      need: (from, to, fast) => fast || this.need(from, to),
      look: (master) => look(master),
      caption: 46,
    });
  }

  item(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Another collection or filter; or the same, asked for again. */
  async show({ collection, filter }, { again = false } = {}) {
    const anew = this.failed || this.collection !== collection || this.filter !== filter;
    if (!anew && !again) return;
    Object.assign(this, { collection, filter, failed: false });
    this.stop?.abort();
    this.stop = new AbortController();
    this.asked.clear();
    if (anew) this.pages.clear();
    const loading = this.load(0);
    if (anew) {
      scrollTo({ top: 0, behavior: "instant" });
      this.say(null);
      this.grid.expect(24);
    }
    await loading;
    this.grid.update(); // asks for the pages in sight
  }

  hide() {
    this.stop?.abort();
    this.collection = null;
  }

  need(from, to) {
    for (let page = Math.floor(from / PAGE); page <= Math.floor((to - 1) / PAGE); page++) this.load(page);
  }

  async load(page) {
    if (this.asked.has(page)) return;
    this.asked.add(page);
    const { signal } = this.stop;
    try {
      const given = { collection: this.collection, filter: this.filter, limit: PAGE, offset: page * PAGE };
      const { masters, total } = await api.masters(given, signal);
      this.pages.set(page, masters);
      this.forget(page);
      this.total = total;
      this.say(total);
      this.grid.refresh(total);
      this.actions.shown();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.asked.delete(page);
      if (page) return failed(problem); // far below what `say` could show
      this.say(null, problem);
      this.failed = true; // and so the next look asks again
      this.grid.reset(0);
    }
  }

  forget(around) {
    const far = [...this.pages.keys()].sort((a, b) => Math.abs(b - around) - Math.abs(a - around));
    for (const page of far.slice(0, Math.max(0, this.pages.size - KEPT))) {
      this.pages.delete(page);
      this.asked.delete(page);
    }
  }

  say(total, problem) {
    const nothing = find("#nothing");
    nothing.hidden = !problem && total !== 0;
    find("#count").textContent = problem || total === null ? "" : count(total, "picture");
    announce(problem ? problem.message : find("#count").textContent);
    if (problem) nothing.replaceChildren(...failure(problem, () => this.show(this, { again: true })));
    else if (total === 0) nothing.replaceChildren(...(this.filter ? this.actions.nothingMatches() : this.actions.empty()));
  }
}

/** What failed, and a way to try it again. */
export function failure(problem, again) {
  const lasting = [400, 404, 413, 415, 422].includes(problem.status); // the same again would fail again
  return [
    el("h2", { text: problem.status === 404 ? "Not here" : "That did not work" }),
    el("p", { text: problem.message }),
    !lasting && el("button", { type: "button", text: "Try again", on: { click: again } }),
  ].filter(Boolean);
}
