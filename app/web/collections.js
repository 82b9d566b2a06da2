/** Collections: switch, create, delete. */

import * as api from "./api.js";
import { button, count, el, find, name } from "./dom.js";
import * as state from "./state.js";
import { failed, toast } from "./toasts.js";

export class Collections {
  /** `changed`: told that what is shown may be gone. */
  constructor({ changed }) {
    this.changed = changed;
    this.dialog = find("#collections");
    find("#collection").addEventListener("click", () => this.open());
    find("#new-collection").addEventListener("submit", (event) => this.create(event));
  }

  show({ collection }) {
    find("#collection-name").textContent = collection;
  }

  async open() {
    find("#collection-list").replaceChildren(); // those of the last time may be gone
    this.dialog.showModal();
    await this.load();
  }

  async load() {
    try {
      const { collections } = await api.collections();
      find("#collection-list").replaceChildren(...collections.map((found) => this.row(found)));
    } catch (problem) {
      failed(problem);
    }
  }

  row(found) {
    const here = found.name === state.current().collection;
    const row = el("li", {});
    row.append(
      button(
        { class: "choice", "aria-current": here ? "true" : null, on: { click: () => this.go(found.name) } },
        here ? "check" : "folder",
        [name(found.name), el("span", { class: "hint", text: count(found.masters, "picture") })],
      ),
      button({ class: "quiet", "aria-label": `Delete the collection ${found.name}`, on: { click: () => this.confirm(row, found) } }, "trash"),
    );
    return row;
  }

  go(collection) {
    this.dialog.close();
    state.set({ collection, filter: "", like: "", sample: null, box: "", master: "" });
  }

  async create(event) {
    event.preventDefault();
    const input = find("#new-collection input");
    try {
      const made = await api.createCollection(input.value.trim());
      input.value = "";
      this.go(made.name);
    } catch (problem) {
      failed(problem);
      input.focus();
    }
  }

  /** Only who types the name deletes it. */
  confirm(row, found) {
    const input = el("input", { type: "text", required: true, autocomplete: "off", "aria-label": `Type ${found.name} to delete it` });
    const really = el("button", { type: "submit", class: "danger", disabled: true, text: "Delete for ever" });
    input.addEventListener("input", () => (really.disabled = input.value !== found.name));
    const form = el(
      "form",
      { class: "confirm" },
      el("p", {}, "This deletes ", el("strong", { text: count(found.masters, "picture") }), " for ever. Type ", el("strong", {}, name(found.name)), " to confirm."),
      input,
      el("div", { class: "buttons" }, really, button({ on: { click: () => this.load() } }, null, "Keep")),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (input.value !== found.name) return;
      try {
        await api.deleteCollection(found.name);
        toast(`The collection ${found.name} is deleted.`);
        if (state.current().collection === found.name) this.go("default");
        else await this.load();
        this.changed();
      } catch (problem) {
        failed(problem);
      }
    });
    row.replaceChildren(form);
    input.focus();
  }
}
