/** Sample and hit side by side. */

import { percent } from "./cards.js";
import { el, find, name } from "./dom.js";
import { release, show } from "./images.js";

export class Compare {
  /** `hits()`: those shown, nearest first. */
  constructor(hits) {
    this.hits = hits;
    this.dialog = find("#compare");
    this.image = find("#compare-hit");
    find("#compare-before").addEventListener("click", () => this.step(-1));
    find("#compare-after").addEventListener("click", () => this.step(1));
    this.dialog.addEventListener("close", () => {
      release(this.image);
      find("#compare-sample").removeAttribute("src");
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.step(-1);
      if (event.key === "ArrowRight") this.step(1);
    });
  }

  show(hit) {
    const sample = find("#sample-image");
    this.hit = hit;
    release(this.image);
    show(this.image, hit.master, 1024);
    this.image.alt = `Hit: ${hit.master.name}`;
    find("#compare-sample").src = sample.src;
    find("#compare-sample").alt = sample.alt;
    find("#compare-sample").dataset.state = sample.dataset.state;
    const place = this.place();
    find("#compare-title").textContent = `Sample and hit ${place + 1} of ${this.hits().length}`;
    find("#compare-name").replaceChildren(name(hit.master.name || "Untitled"));
    find("#compare-before").setAttribute("aria-disabled", place <= 0); // which keeps the focus
    find("#compare-after").setAttribute("aria-disabled", place >= this.hits().length - 1);
    const facts = { Distance: hit.distance.toFixed(4), Score: hit.score.toFixed(2) };
    if (hit.exact) facts["Same file"] = "yes";
    else if (hit.probability !== null) facts["Same thing"] = percent(hit.probability);
    find("#compare-facts").replaceChildren(
      ...Object.entries(facts).map(([term, fact]) => el("div", {}, el("dt", { text: term }), el("dd", { text: fact }))),
    );
    if (!this.dialog.open) this.dialog.showModal();
  }

  hide() {
    this.dialog.close();
  }

  place() {
    return this.hits().findIndex((hit) => hit.master.id === this.hit.master.id);
  }

  step(by) {
    const next = this.hits()[this.place() + by];
    if (next) this.show(next);
  }
}
