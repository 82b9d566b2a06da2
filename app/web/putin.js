/** Putting pictures in: a queue of files with progress, what was there already, what was refused and why. */

import * as api from "./api.js";
import { AttributeForm } from "./attributes.js";
import { follow } from "./cards.js";
import { button, bytes, count, duration, el, find, gathered, name } from "./dom.js";
import { chosen, isImage } from "./files.js";
import * as state from "./state.js";
import { failed, toast } from "./toasts.js";

const AT_ONCE = 3;
const TRIES = 6; // of what fails in passing, in a minute: an upload that was cut off is given up by the service in that time
const LISTED = 200;

export class PutIn {
  /** `done`: told now and then that masters came; `open(master)`. */
  constructor(actions) {
    this.actions = actions;
    this.dialog = find("#put-in");
    this.form = new AttributeForm(find("#batch-attributes"));
    this.forget();
    find("#put-in-open").addEventListener("click", () => this.open());
    for (const id of ["#files", "#folder"]) {
      find(id).addEventListener("change", ({ target }) => {
        this.add(chosen(target));
        target.value = "";
      });
    }
    find("#put-in-cancel").addEventListener("click", () => this.cancel());
    find("#put-in-retry").addEventListener("click", () => this.retry());
    this.tellMasters = gathered(() => actions.done(), 2000);
    addEventListener("beforeunload", (event) => {
      if (this.running) event.preventDefault(); // "leave the page?"
    });
  }

  forget() {
    Object.assign(this, { waiting: [], active: new Set(), failures: [], there: [], created: 0, passedOver: 0 });
    Object.assign(this, { sentBytes: 0, allBytes: 0, all: 0, running: false, stop: new AbortController() });
  }

  open() {
    if (!this.running) this.into(state.current().collection);
    if (!this.running && !this.failures.length && !this.there.length && !this.created) this.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  into(collection) {
    find("#put-in-title").replaceChildren("Put pictures into ", name(collection));
  }

  /** `found`: files with their folders. */
  add(found) {
    this.open();
    if (!this.running) this.forget();
    const { collection } = state.current();
    let attributes;
    try {
      attributes = this.form.get();
    } catch (problem) {
      return failed(problem);
    }
    this.into(collection);
    const byFolder = find("#by-folder").checked;
    for (const { file, folder } of found) {
      if (!isImage(file)) this.passedOver += 1;
      else {
        const own = byFolder && folder ? { ...attributes, folder } : attributes;
        this.waiting.push({ file, sent: 0, tries: 0, fields: { collection, attributes: JSON.stringify(own) } });
        this.all += 1;
        this.allBytes += file.size;
      }
    }
    this.start();
  }

  start() {
    if (!this.running) {
      this.running = true;
      this.begun = performance.now();
      this.before = this.finished;
      this.beforeBytes = this.sentBytes;
      this.drawing = setInterval(() => this.draw(), 200);
    }
    while (this.active.size < AT_ONCE && this.waiting.length) this.send(this.waiting.shift());
    if (!this.active.size) this.end();
    this.draw();
  }

  get finished() {
    return this.created + this.there.length + this.failures.length;
  }

  async send(item) {
    this.active.add(item);
    const { signal } = this.stop;
    try {
      const progress = (sent) => (item.sent = Math.min(sent, item.file.size));
      const result = await this.patiently(item, () => api.putIn(item.file, item.fields, { signal, progress }));
      if (result.created) this.created += 1;
      else this.there.push({ item, master: result.master });
      this.tellMasters();
    } catch (problem) {
      const cancelled = problem.name === "AbortError";
      const reason = cancelled ? "Cancelled while it was sent: it may be there." : problem.message;
      const locked = problem.status === 401 || problem.status === 403;
      const again = cancelled || problem.passing || locked || problem.status >= 500;
      this.failures.push({ item, reason, cancelled, again });
      if (locked) this.cancel(); // and nobody gave a key
    }
    this.sentBytes += item.file.size;
    this.active.delete(item);
    this.start();
  }

  /** A service that is busy or away for a moment is asked again. */
  async patiently(item, work) {
    for (;;) {
      try {
        item.note = "";
        return await work();
      } catch (problem) {
        if (!problem.passing || ++item.tries % TRIES === 0 || this.stop.signal.aborted) throw problem;
        item.sent = 0;
        item.note = "waiting for the service";
        await this.pause(Math.max(problem.retryAfter, 2 ** (item.tries % TRIES)));
      }
    }
  }

  pause(seconds) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.stop.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(new DOMException("cancelled", "AbortError"));
      });
    });
  }

  cancel() {
    for (const item of this.waiting.splice(0)) {
      this.failures.push({ item, reason: "Cancelled.", cancelled: true, again: true });
      this.sentBytes += item.file.size;
    }
    this.stop.abort();
    this.stop = new AbortController();
    this.draw();
  }

  retry() {
    const again = this.failures.filter((failure) => failure.again);
    this.failures = this.failures.filter((failure) => !failure.again);
    for (const { item } of again) {
      this.sentBytes -= item.file.size;
      this.waiting.push(Object.assign(item, { sent: 0, tries: 0 }));
    }
    this.start();
  }

  end() {
    clearInterval(this.drawing);
    if (!this.running) return;
    this.running = false;
    this.actions.done();
    if (!this.dialog.open) {
      toast(this.outcome(), { action: { label: "Show", run: () => this.open() } });
    }
  }

  outcome() {
    const parts = [`${count(this.created, "picture")} put in`];
    if (this.there.length) parts.push(`${this.there.length} there already`);
    const cancelled = this.failures.filter((failure) => failure.cancelled).length;
    if (this.failures.length - cancelled) parts.push(`${this.failures.length - cancelled} refused or failed`);
    if (cancelled) parts.push(`${cancelled} cancelled`);
    if (this.passedOver) parts.push(`${count(this.passedOver, "file")} passed over that ${this.passedOver === 1 ? "is" : "are"} no picture`);
    return `${parts.join(", ")}.`;
  }

  draw() {
    const begun = this.all > 0 || this.passedOver > 0;
    find("#put-in-progress").hidden = !begun;
    find("#put-in-cancel").hidden = !this.running;
    find("#put-in-retry").hidden = this.running || !this.failures.some(({ again }) => again);
    if (!begun) return;
    const sending = [...this.active].reduce((sum, item) => sum + item.sent, 0);
    const share = Math.floor((100 * (this.sentBytes + sending)) / Math.max(1, this.allBytes));
    find("#put-in-open span").textContent = this.running ? `Putting in, ${share} %` : "Put in";
    find("#put-in-said").setAttribute("aria-live", this.running ? "off" : "polite"); // the outcome is said, not each step
    find("#put-in-bar").max = Math.max(1, this.allBytes);
    find("#put-in-bar").value = this.running ? this.sentBytes + sending : this.allBytes;
    find("#put-in-said").textContent = this.running ? this.pace(sending) : this.outcome();
    find("#put-in-active").replaceChildren(...[...this.active].map(fileRow));
    this.list("#put-in-failed", "Not put in", this.failures, ({ item, reason }) => [name(item.file.name), el("span", { class: "reason", text: reason })]);
    this.list("#put-in-there", "There already", this.there, ({ item, master }) => [
      name(item.file.name),
      el("a", { href: `/?master=${master.id}`, text: `as ${master.name}`, on: { click: (event) => follow(event, () => this.show(master)) } }),
    ]);
  }

  show(master) {
    this.dialog.close();
    this.actions.open(master);
  }

  pace(sending) {
    const seconds = (performance.now() - this.begun) / 1000;
    const done = this.finished - this.before;
    const sent = this.sentBytes + sending - this.beforeBytes;
    const text = `${this.finished} of ${count(this.all, "picture")}`;
    if (seconds < 1 || !done) return `${text}…`;
    const left = ((this.allBytes - this.sentBytes - sending) / Math.max(1, sent)) * seconds;
    return `${text} · ${(done / seconds).toFixed(1)} a second · ${duration(left)} left`;
  }

  list(selector, title, rows, content) {
    const box = find(selector);
    box.hidden = !rows.length;
    if (box.dataset.count === String(rows.length) && rows.length) return;
    box.dataset.count = rows.length;
    const more = rows.length - LISTED;
    box.replaceChildren(
      el("summary", { text: `${title}: ${rows.length}` }),
      el("ul", {}, rows.slice(0, LISTED).map((row) => el("li", {}, content(row))), more > 0 && el("li", { text: `and ${more} more` })),
    );
  }
}

function fileRow(item) {
  const bar = el("progress", { max: Math.max(1, item.file.size), value: item.sent, "aria-label": item.file.name });
  const said = item.note || (item.sent >= item.file.size ? "being looked at" : bytes(item.file.size));
  return el("li", {}, name(item.file.name), bar, el("span", { class: "hint", text: said }));
}
