/** A search and its hits, nearest first: fetched as asked for, narrowed by distance at once. */

import * as api from "./api.js";
import { failure } from "./browse.js";
import { card, dispose, look } from "./cards.js";
import { announce, count, find } from "./dom.js";
import { Grid } from "./grid.js";
import { failed } from "./toasts.js";

const REACH = 10_000; // the service's own limit of offset + k

export class Hits {
  constructor(actions) {
    this.actions = actions;
    this.all = [];
    this.shown = [];
    this.grid = new Grid(find("#hits"), {
      render: (hit, index, width) => card(hit?.master, width, actions, hit),
      dispose,
      item: (index) => this.shown[index],
      look: (hit) => look(hit?.master, hit),
      caption: 68,
    });
    this.slider = find("#distance");
    this.slider.addEventListener("input", () => {
      this.whole = false;
      this.narrow();
    });
    find("#k").addEventListener("change", () => this.again?.());
    find("#more").addEventListener("click", ({ currentTarget }) => currentTarget.ariaDisabled || this.more());
  }

  get k() {
    return Number(find("#k").value);
  }

  /** `sample`: a file, or `like`, a master's id. Nothing is asked twice: what is shown stays. */
  async show({ collection, filter, like, box, mirror, sample }) {
    const asked = JSON.stringify([collection, filter, like, box, mirror, this.k]);
    if (asked === this.asked && sample === this.sample) return;
    this.again = () => this.show({ collection, filter, like, box, mirror, sample });
    this.asked = asked;
    find("#nothing").hidden = true;
    const other = sample !== this.sample || like !== this.like;
    if (other) this.slider.value = this.slider.max;
    if (other || !this.all.length) {
      this.all = this.shown = [];
      find("#count").textContent = "";
      scrollTo({ top: 0, behavior: "instant" });
      this.grid.expect(12);
    }
    Object.assign(this, { sample, like, filter });
    this.fields = { collection, filter, box, mirror: mirror || "", ...(sample ? { sample: sample.file } : { master_id: like }) };
    this.whole = Number(this.slider.value) >= Number(this.slider.max);
    const hits = await this.fetch(0);
    if (!hits) return;
    this.all = hits;
    this.narrow({ anew: true });
  }

  async more() {
    const hits = await this.fetch(this.all.length);
    if (!hits) return;
    const known = new Set(this.all.map((hit) => hit.master.id));
    this.whole = Number(this.slider.value) >= Number(this.slider.max);
    this.all = [...this.all, ...hits.filter((hit) => !known.has(hit.master.id))];
    this.narrow();
  }

  /** The same search again. */
  renew() {
    this.asked = null;
    this.again?.();
  }

  hide() {
    this.stop?.abort();
    this.asked = this.sample = this.like = null;
    this.all = this.shown = [];
    announce("");
  }

  /** A master is gone. */
  without(id) {
    this.all = this.all.filter((hit) => hit.master.id !== id);
    this.narrow();
  }

  async fetch(offset) {
    this.stop?.abort();
    const stop = (this.stop = new AbortController());
    const main = find("#results");
    main.setAttribute("aria-busy", "true");
    find("#more").setAttribute("aria-disabled", true); // which keeps the focus
    const k = Math.min(this.k, REACH - offset);
    try {
      const answer = await api.search({ ...this.fields, k, offset }, stop.signal);
      this.complete = answer.hits.length < k || offset + k >= REACH;
      main.dataset.tookMs = answer.took_ms;
      return answer.hits;
    } catch (problem) {
      if (problem.name === "AbortError") return null;
      if (offset) failed(problem); // those that are here stay
      else this.fail(problem, this.again);
      return null;
    } finally {
      if (stop === this.stop) {
        main.removeAttribute("aria-busy"); // else a later search is under way
        find("#more").removeAttribute("aria-disabled");
      }
    }
  }

  fail(problem, again) {
    this.asked = null;
    this.all = this.shown = [];
    this.grid.reset(0);
    find("#nothing").hidden = false;
    find("#nothing").replaceChildren(...failure(problem, again));
    find("#count").textContent = "";
    find("#more").hidden = true;
    announce(problem.message);
  }

  /** Show those up to the slider's distance. */
  narrow({ anew = false } = {}) {
    const farthest = Math.ceil((this.all.at(-1)?.distance ?? 1) * 100) / 100;
    if (this.whole || anew) {
      this.slider.max = Math.max(0.01, farthest);
      this.slider.min = Math.min(this.slider.max - 0.01, Math.ceil((this.all[0]?.distance ?? 0) * 100) / 100); // the nearest stays
      if (this.whole) this.slider.value = this.slider.max;
    }
    const limit = Number(this.slider.value);
    this.whole = limit >= Number(this.slider.max);
    this.shown = this.whole ? this.all : this.all.filter((hit) => hit.distance <= limit);
    find("#distance-value").textContent = this.whole ? "any" : `up to ${limit.toFixed(2)}`;
    this.slider.setAttribute("aria-valuetext", this.whole ? "any distance" : `up to ${limit.toFixed(2)}`);
    this.grid.refresh(this.shown.length);
    const found = count(this.shown.length, "hit");
    const text = this.shown.length < this.all.length ? `${this.shown.length} of ${count(this.all.length, "hit")}` : found;
    find("#count").textContent = text;
    announce(text);
    find("#more").hidden = this.complete || !this.all.length || !this.whole; // what comes is farther than those left out
    find("#nothing").hidden = this.shown.length > 0;
    if (!this.shown.length) find("#nothing").replaceChildren(...(this.filter ? this.actions.nothingMatches() : this.actions.empty()));
    this.actions.shown();
  }
}
