/** A grid of which only what is near the window has elements, however many items there are. */

const GAP = 12;
const AHEAD = 0.75; // windows above and below that have elements, too
const TALLEST = 15_000_000; // pixels; browsers cut off taller elements
const PATIENCE = 200; // milliseconds
const FAST = 3; // windows in a tenth of a second: nobody can look at these

export class Grid {
  /**
   * `container`: an empty list. `render(item, index, width)` gives the content of a cell (item undefined: not there yet), `dispose`
   * is told of each that goes. `need(from, to)`: items that are or will be seen. `look(item)`: a text that is another where it
   * would be shown otherwise. `smallest`: pixels of a square's side, `caption`: those below it, where the font has 16.
   */
  constructor(container, { render, dispose, need = () => {}, item, look, caption, smallest = 168 }) {
    Object.assign(this, { container, render, dispose, need, item, look, caption, smallest });
    this.count = 0;
    this.cells = new Map();
    this.lastTop = 0;
    this.lastTime = 0;
    this.update = this.update.bind(this);
    this.scheduled = 0;
    this.watcher = new ResizeObserver(() => this.schedule());
    addEventListener("scroll", () => this.schedule(), { passive: true });
    addEventListener("resize", () => this.schedule());
    container.addEventListener("keydown", (event) => this.onKey(event));
    this.watcher.observe(container);
  }

  schedule() {
    this.scheduled ||= requestAnimationFrame(this.update);
  }

  /** So many items are to come: placeholders, once that takes long enough to be noticed. */
  expect(count) {
    this.reset(0);
    this.expecting = setTimeout(() => this.reset(count), PATIENCE);
  }

  /** Other items, or others of them. */
  reset(count) {
    clearTimeout(this.expecting);
    for (const index of [...this.cells.keys()]) this.drop(index);
    this.count = count;
    this.update();
  }

  /** Items came, or their number changed, while those there stayed. */
  refresh(count = this.count) {
    clearTimeout(this.expecting);
    this.count = count;
    const focused = this.focused();
    for (const [index, cell] of [...this.cells]) {
      if (index >= count || cell.shown !== this.look(this.item(index))) this.drop(index);
      else cell.setAttribute("aria-setsize", count);
    }
    this.update();
    if (focused !== null) this.focusLink(Math.min(focused, count - 1)); // another stands there now, or the same anew
    else if (document.activeElement === document.body && this.wanted !== undefined) this.focusLink(this.wanted);
  }

  /** Pictures that could not be shown are tried again. */
  retry() {
    for (const [index, cell] of [...this.cells]) if (cell.querySelector('img[data-state="missing"]')) this.drop(index);
    this.update();
  }

  /** The index of the cell that has the focus, or null. */
  focused() {
    const cell = document.activeElement?.closest(".cell");
    return cell && this.container.contains(cell) ? Number(cell.dataset.index) : null;
  }

  focusLink(index) {
    const link = this.cells.get(index)?.querySelector("a, button");
    if (link && !this.cells.get(index).contains(document.activeElement)) link.focus({ preventScroll: true });
    this.wanted = link || index < 0 ? undefined : index; // else when its item has come
  }

  layout() {
    const width = this.container.clientWidth;
    const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16; // the reader's own, and larger on a wall
    const smallest = width < 480 * scale ? 140 * scale : this.smallest * scale;
    this.columns = Math.max(2, Math.floor((width + GAP) / (smallest + GAP)));
    this.width = Math.floor((width - GAP * (this.columns - 1)) / this.columns);
    this.across = (width - this.width) / (this.columns - 1); // to the last pixel on the right
    this.step = this.width + this.caption * scale + GAP;
    this.rows = Math.min(Math.ceil(this.count / this.columns), Math.floor(TALLEST / this.step));
    this.container.style.height = `${Math.max(0, this.rows * this.step - GAP)}px`;
  }

  update() {
    cancelAnimationFrame(this.scheduled);
    this.scheduled = 0;
    if (this.container.hidden || !this.container.clientWidth) return;
    const before = this.width;
    this.layout();
    if (this.width !== before) for (const index of [...this.cells.keys()]) this.drop(index);
    const top = -this.container.getBoundingClientRect().top;
    const fast = this.isFast(top);
    const margin = innerHeight * AHEAD;
    const first = Math.max(0, Math.floor((top - margin) / this.step)) * this.columns;
    const last = Math.min(this.rows * this.columns, this.count, Math.ceil((top + innerHeight + margin) / this.step) * this.columns);
    for (const [index, cell] of [...this.cells]) {
      if ((index < first || index >= last) && !cell.contains(document.activeElement)) this.drop(index);
    }
    if (last > first) this.need(first, last, fast);
    for (let index = first; index < last; index++) if (!this.cells.has(index)) this.place(index, fast);
  }

  isFast(top) {
    const now = performance.now();
    const moved = Math.abs(top - this.lastTop) / Math.max(100, now - this.lastTime);
    this.lastTop = top;
    this.lastTime = now;
    const fast = moved * 100 > FAST * innerHeight;
    clearTimeout(this.rest);
    if (fast) this.rest = setTimeout(() => this.refreshFast(), 120);
    return fast;
  }

  refreshFast() {
    for (const [index, cell] of [...this.cells]) if (cell.fast) this.drop(index);
    this.update();
  }

  place(index, fast) {
    const item = fast ? undefined : this.item(index);
    const cell = document.createElement("li");
    cell.className = "cell";
    cell.shown = this.look(item);
    cell.fast = fast;
    cell.setAttribute("aria-setsize", this.count);
    cell.setAttribute("aria-posinset", index + 1);
    cell.dataset.index = index;
    cell.style.width = `${this.width}px`;
    cell.style.height = `${this.step - GAP}px`;
    const left = Math.round((index % this.columns) * this.across);
    cell.style.transform = `translate(${left}px, ${Math.floor(index / this.columns) * this.step}px)`;
    cell.append(this.render(item, index, this.width));
    // in the order of the items, so that Tab and screen readers go through them in that order
    let next = null;
    for (let after = index + 1; !next && after < index + this.columns * 3; after++) next = this.cells.get(after) ?? null;
    if (!next) for (const other of this.container.children) if (Number(other.dataset.index) > index) { next = other; break; }
    this.container.insertBefore(cell, next);
    this.cells.set(index, cell);
  }

  drop(index) {
    const cell = this.cells.get(index);
    this.cells.delete(index);
    this.dispose(cell);
    cell.remove();
  }

  /** Arrow keys go from picture to picture. */
  onKey(event) {
    const from = event.target.closest(".cell");
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns };
    if (!from || event.ctrlKey || event.metaKey || event.altKey) return;
    let to = Number(from.dataset.index) + steps[event.key];
    if (event.key === "Home") to = 0;
    if (event.key === "End") to = Math.min(this.count, this.rows * this.columns) - 1;
    if (!(to >= 0 && to < this.count)) return;
    event.preventDefault();
    this.focus(to);
  }

  /** Brings the item into sight and puts the focus on it. */
  focus(index) {
    const place = this.container.getBoundingClientRect().top + Math.floor(index / this.columns) * this.step;
    if (place < parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || place + this.step > innerHeight) scrollBy({ top: place - (innerHeight - this.step) / 2, behavior: "instant" });
    this.lastTop = -this.container.getBoundingClientRect().top; // a jump that is to be seen
    this.update();
    this.focusLink(index);
    if (this.wanted === index) document.activeElement.blur(); // it is far away by now
  }
}
