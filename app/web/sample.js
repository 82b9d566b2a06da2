/** The sample beside its hits: shown, and a box drawn on it by mouse, touch or keyboard. */

import { find, settled } from "./dom.js";
import { own, release, show } from "./images.js";

const NEAR = 18; // pixels of the page: so near to a corner, it is meant
const LEAST = 0.04; // of the picture's side: less is a slip

export class Sample {
  /** `changed(box)`: x,y,width,height in pixels of the upright sample, or "". */
  constructor(changed) {
    this.changed = changed;
    this.later = settled(() => this.tell(), 250);
    this.image = find("#sample-image");
    this.stage = find("#stage");
    this.frame = find("#box");
    this.box = null; // [left, top, right, bottom] as parts of 1
    this.stage.addEventListener("pointerdown", (event) => this.press(event));
    this.frame.addEventListener("keydown", (event) => this.key(event));
    this.image.addEventListener("load", () => this.measured());
    find("#choose-part").addEventListener("click", () => this.choose());
  }

  /** `sample`: a file here; or `master`. `box` as in the URL. */
  show(sample, master, box) {
    const shown = sample ?? master?.id;
    if (shown !== this.shown) {
      this.clear();
      this.shown = shown;
      this.size = master ? [master.width, master.height] : null;
      this.image.alt = `Sample: ${sample ? sample.file.name : master.name}`;
      if (sample) {
        this.image.onload = () => (this.image.dataset.state = "shown");
        this.image.onerror = () => (this.image.dataset.state = "missing");
        own(this.image, sample.file);
      } else show(this.image, master, 1024);
    }
    this.wanted = box;
    this.place();
    find("#choose-part").disabled = !this.size; // nobody knows which part of what cannot be shown
  }

  /** Nothing yet. */
  clear() {
    release(this.image);
    Object.assign(this, { shown: null, size: null, box: null });
    this.image.alt = "";
    this.draw();
  }

  missing() {
    this.image.dataset.state = "missing";
  }

  /** Of a file, only the loaded image tells the size. */
  measured() {
    this.size ??= [this.image.naturalWidth, this.image.naturalHeight];
    find("#choose-part").disabled = false;
    this.place();
  }

  place() {
    if (!this.size || this.dragging) return;
    const [x, y, width, height] = this.wanted ? this.wanted.split(",").map(Number) : [];
    this.box = width > 0 ? [x / this.size[0], y / this.size[1], (x + width) / this.size[0], (y + height) / this.size[1]] : null;
    this.draw();
  }

  draw() {
    this.frame.hidden = !this.box;
    find("#choose-part").textContent = this.box ? "Whole picture" : "Choose a part";
    if (!this.box) return;
    const [left, top, right, bottom] = this.box.map((part) => part * 100);
    Object.assign(this.frame.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    this.frame.setAttribute("aria-valuetext", `${Math.round(right - left)} by ${Math.round(bottom - top)} per cent of the picture`);
  }

  tell() {
    this.wanted = "";
    if (this.box) {
      const [width, height] = this.size;
      const [left, top, right, bottom] = this.box;
      const [x, y] = [Math.floor(left * width), Math.floor(top * height)];
      const sides = [Math.min(width - x, Math.round((right - left) * width)), Math.min(height - y, Math.round((bottom - top) * height))];
      this.wanted = [x, y, ...sides.map((side) => Math.max(1, side))].join(",");
    }
    this.changed(this.wanted);
  }

  choose() {
    this.box = this.box ? null : [0.25, 0.25, 0.75, 0.75];
    this.draw();
    if (this.box) this.frame.focus();
    this.tell();
  }

  press(event) {
    if (event.button || !event.isPrimary || !this.size) return;
    event.preventDefault();
    const area = this.stage.getBoundingClientRect();
    const at = ({ clientX, clientY }) => [within((clientX - area.left) / area.width), within((clientY - area.top) / area.height)];
    const before = this.box;
    const work = this.gesture(at(event), area);
    const move = (moved) => {
      this.dragging = true;
      this.box = work(at(moved));
      this.draw();
    };
    const end = (ended) => {
      this.stage.removeEventListener("pointermove", move);
      this.stage.removeEventListener("pointerup", end);
      this.stage.removeEventListener("pointercancel", end);
      const drawn = this.dragging;
      this.dragging = false;
      if (ended.type === "pointercancel" || !drawn) this.box = before;
      else if (this.box && (this.box[2] - this.box[0] < LEAST || this.box[3] - this.box[1] < LEAST)) this.box = null;
      this.draw();
      if (drawn) this.tell();
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
  }

  /** What moving the pointer means: a corner pulls, the inside moves, elsewhere a new box begins. */
  gesture([x, y], area) {
    if (this.box) {
      const [left, top, right, bottom] = this.box;
      const reach = [NEAR / area.width, NEAR / area.height];
      const near = (a, b) => Math.abs(x - a) < reach[0] && Math.abs(y - b) < reach[1];
      for (const [a, b, c, d] of [[left, top, right, bottom], [right, top, left, bottom], [left, bottom, right, top], [right, bottom, left, top]]) {
        if (near(a, b)) return (to) => spanned(to, [c, d]);
      }
      if (x > left && x < right && y > top && y < bottom) return ([a, b]) => shifted([left, top, right, bottom], a - x, b - y);
    }
    return (to) => spanned(to, [x, y]);
  }

  /** Arrow keys move the box, with Shift they change its size; Delete takes it away. */
  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const [x, y] = (steps[event.key] ?? []).map((step) => step * 0.02);
    if (x !== undefined) {
      const [left, top, right, bottom] = this.box;
      this.box = event.shiftKey
        ? [left, top, within(Math.max(left + LEAST, right + x)), within(Math.max(top + LEAST, bottom + y))]
        : shifted(this.box, x, y);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.box = null;
      find("#choose-part").focus();
    } else return;
    event.preventDefault();
    this.draw();
    this.later();
  }
}

const within = (part) => Math.min(1, Math.max(0, part));
const spanned = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];

function shifted([left, top, right, bottom], x, y) {
  const dx = Math.min(1 - right, Math.max(-left, x));
  const dy = Math.min(1 - bottom, Math.max(-top, y));
  return [left + dx, top + dy, right + dx, bottom + dy];
}
