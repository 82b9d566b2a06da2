/** One master: the picture, all that is known of it, and what can be done with it. */

import * as api from "./api.js";
import { AttributeForm } from "./attributes.js";
import { deleteSoon } from "./deletion.js";
import { bytes, el, find, name } from "./dom.js";
import { openOriginal, release, show } from "./images.js";
import * as state from "./state.js";
import { failed, toast } from "./toasts.js";

export class Detail {
  /** `actions`: `like`, `changed`. */
  constructor(actions) {
    this.actions = actions;
    this.dialog = find("#detail");
    this.image = find("#detail-image");
    this.form = new AttributeForm(find("#detail-attributes"));
    this.dialog.addEventListener("close", () => {
      release(this.image);
      this.id = null;
      if (state.current().master) state.set({ master: "" });
    });
    find("#detail-form").addEventListener("submit", (event) => this.save(event));
    find("#detail-like").addEventListener("click", () => actions.like(this.master));
    find("#detail-original").addEventListener("click", () => openOriginal(this.master).catch(failed));
    find("#detail-delete").addEventListener("click", () => {
      this.dialog.close();
      deleteSoon(this.master);
    });
  }

  async show({ master: id }) {
    if (!id) {
      this.id = null; // nor is it to open when an answer comes
      if (this.dialog.open) this.dialog.close();
      return;
    }
    if (id === this.id) return;
    this.id = id;
    try {
      const master = await api.master(id);
      if (id === this.id) this.fill(master);
    } catch (problem) {
      this.id = null;
      failed(problem);
      state.set({ master: "" }, { replace: true });
      if (problem.status === 404) this.actions.changed();
    }
  }

  fill(master) {
    this.master = master;
    this.image.alt = master.name;
    show(this.image, master, 1024);
    find("#detail-title").replaceChildren(name(master.name || "Untitled"));
    find("#detail-name").value = master.name;
    this.form.set(master.attributes);
    const facts = {
      Size: `${master.width} × ${master.height} pixels, ${bytes(master.size)}`,
      Type: master.mime,
      Collection: name(master.collection),
      "Put in": new Date(master.created_at).toLocaleString(),
      Identity: el("code", { text: master.id }),
      "SHA-256": el("code", { text: master.sha256 }),
    };
    find("#facts").replaceChildren(...Object.entries(facts).flatMap(([term, fact]) => [el("dt", { text: term }), el("dd", {}, fact)]));
    if (!this.dialog.open) this.dialog.showModal();
  }

  async save(event) {
    event.preventDefault();
    const { id } = this;
    try {
      const master = await api.change(id, { name: find("#detail-name").value, attributes: this.form.get() });
      if (id === this.id) this.fill(master); // else it was closed meanwhile
      this.actions.changed();
      toast("Saved.");
    } catch (problem) {
      failed(problem);
    }
  }
}
