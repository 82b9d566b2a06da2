/** The filter as a form made of what is there, and as the service's JSON in the URL. */

import * as api from "./api.js";
import { written } from "./attributes.js";
import { button, count, el, find, name, settled } from "./dom.js";
import * as state from "./state.js";
import { failed } from "./toasts.js";

const LISTED = 8; // values of a key that are shown at first

/**
 * key -> { values: [...], list: whether they are items of lists, or "mixed": of some, from, to }. Null for a filter that the form
 * cannot show. The form writes {key: {$in: […]}}, {key: {$gte, $lte}} and, for lists, {$or: [{key: {$contains: …}}, …]}, where they
 * are mixed with {key: {$in: […]}} among these; all below one $and.
 */
export function parse(text) {
  if (!text) return new Map();
  const chosen = new Map();
  const at = (key) => chosen.get(key) ?? chosen.set(key, { values: [] }).get(key);
  try {
    const filter = JSON.parse(text);
    for (const part of filter.$and ?? [filter]) {
      for (const [key, asked] of Object.entries(part)) {
        if (key === "$or") {
          for (const option of asked) {
            const [[item, { $contains, $in }]] = Object.entries(option);
            at(item).list = $in ? "mixed" : true;
            if (!$in) at(item).values.push($contains);
          }
        } else if (typeof asked !== "object") at(key).values.push(asked);
        else if (asked.$in) at(key).values.push(...asked.$in);
        else Object.assign(at(key), { from: asked.$gte, to: asked.$lte });
      }
    }
  } catch {
    return null;
  }
  return serialise(chosen) === JSON.stringify(JSON.parse(text)) ? chosen : null;
}

export function serialise(chosen) {
  const parts = [];
  for (const [key, { values, list, from, to }] of chosen) {
    if (values.length && list) {
      const alone = list === "mixed" ? [{ [key]: { $in: values } }] : [];
      parts.push({ $or: [...values.map((value) => ({ [key]: { $contains: value } })), ...alone] });
    }
    else if (values.length) parts.push({ [key]: { $in: values } });
    const range = { ...(from !== undefined && { $gte: from }), ...(to !== undefined && { $lte: to }) };
    if (Object.keys(range).length) parts.push({ [key]: range });
  }
  if (!parts.length) return "";
  return JSON.stringify(parts.length === 1 ? parts[0] : { $and: parts });
}

export class Filters {
  constructor() {
    this.panel = find("#filters");
    this.toggle = find("#filter-toggle");
    this.toggle.addEventListener("click", () => this.open(this.panel.hidden));
    this.apply = () => state.set({ filter: serialise(this.chosen) });
    this.later = settled(this.apply, 200);
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.open(false);
      this.toggle.focus();
    });
  }

  async open(open) {
    this.panel.hidden = !open;
    this.toggle.setAttribute("aria-expanded", open);
    if (open) await this.load();
    dispatchEvent(new Event("resize"));
  }

  /** What is in the URL. */
  show({ collection, filter }) {
    const other = collection !== this.collection;
    Object.assign(this, { collection, filter, chosen: parse(filter) });
    this.showChips();
    if (other) this.panel.replaceChildren(); // not to be used for this one
    if (!this.panel.hidden && (other || filter !== (this.drawn ? serialise(this.drawn) : null))) this.load();
  }

  /** What is there may be other than it was. */
  renew() {
    if (!this.panel.hidden && !this.panel.contains(document.activeElement)) this.load();
  }

  showChips() {
    const chips = [];
    for (const [key, choice] of this.chosen ?? []) {
      const without = (changed) => () => state.set({ filter: serialise(new Map([...this.chosen, [key, { ...choice, ...changed }]])) });
      for (const value of choice.values) {
        chips.push(chip(`${key}: ${written(value)}`, without({ values: choice.values.filter((other) => other !== value) })));
      }
      if (choice.from !== undefined) chips.push(chip(`${key} ≥ ${choice.from}`, without({ from: undefined })));
      if (choice.to !== undefined) chips.push(chip(`${key} ≤ ${choice.to}`, without({ to: undefined })));
    }
    if (!this.chosen) chips.push(chip(this.filter, () => state.set({ filter: "" })));
    if (chips.length > 1) chips.push(button({ class: "quiet", on: { click: () => state.set({ filter: "" }) } }, null, "Clear all"));
    find("#chips").replaceChildren(...chips);
  }

  async load() {
    this.stop?.abort();
    this.stop = new AbortController();
    try {
      const { attributes, masters } = await api.attributes(this.collection, this.stop.signal);
      this.draw(attributes, masters);
    } catch (problem) {
      if (problem.name !== "AbortError") failed(problem);
    }
  }

  draw(attributes, masters) {
    this.drawn = this.chosen;
    if (!this.chosen) {
      this.panel.replaceChildren(el("p", { text: "The filter in use cannot be shown as a form. Remove it to choose another." }));
      return;
    }
    if (!attributes.length) {
      this.panel.replaceChildren(el("p", { text: "These pictures have no attributes yet. Give them some when you put pictures in." }));
      return;
    }
    this.panel.replaceChildren(...attributes.map((attribute) => this.field(attribute, masters)));
  }

  field(attribute, masters) {
    const list = attribute.types.includes("list") && (attribute.types.length > 1 ? "mixed" : true);
    const legend = el("legend", {}, name(attribute.key), el("span", { class: "hint", text: share(attribute.masters, masters) }));
    const many = attribute.types.join() === "number" && attribute.distinct > LISTED;
    return el("fieldset", {}, legend, many ? this.range(attribute) : this.values(attribute, list));
  }

  values({ key, values, distinct, types }, list) {
    const choice = this.chosen.get(key) ?? { values: [] };
    const missing = choice.values.filter((value) => !values.some((one) => one.value === value)).map((value) => ({ value }));
    const rows = [...missing, ...values].map(({ value, masters }) => {
      const box = el("input", { type: "checkbox", on: { change: () => this.toggleValue(key, value, box.checked, list) } });
      box.checked = choice.values.includes(value);
      return el("label", { class: "check" }, box, name(written(value)), el("span", { class: "hint", text: masters ?? "" }));
    });
    const hidden = rows.slice(LISTED + missing.length);
    for (const row of hidden) row.hidden = !row.firstChild.checked;
    const all = button({ class: "quiet", on: { click: () => { for (const row of hidden) row.hidden = false; all.remove(); hidden[0].firstChild.focus(); } } }, null, `${hidden.length} more`);
    const left = distinct - values.length;
    return [
      ...rows,
      hidden.some((row) => row.hidden) && all,
      left > 0 && this.another(key, types.includes("string") || values.some(({ value }) => typeof value === "string"), list, left),
    ];
  }

  /** For a value that is not among the most frequent. */
  another(key, isText, list, left) {
    const input = el("input", { type: "text", "aria-label": `Another value of ${key}`, placeholder: `One of ${count(left, "other")}` });
    input.addEventListener("change", () => {
      if (input.value) this.toggleValue(key, isText ? input.value : Number(input.value), true, list);
      this.load();
    });
    return input;
  }

  range({ key, minimum, maximum }) {
    const choice = this.chosen.get(key) ?? {};
    const input = (label, side, placeholder) => {
      const field = el("input", { type: "number", step: "any", "aria-label": `${key}: ${label}`, placeholder, value: choice[side] ?? "" });
      field.addEventListener("input", () => {
        this.set(key, { [side]: field.value === "" ? undefined : Number(field.value) });
        this.later();
      });
      return field;
    };
    return el("div", { class: "range" }, input("from", "from", minimum), el("span", { text: "to" }), input("to", "to", maximum));
  }

  toggleValue(key, value, on, list) {
    const values = (this.chosen.get(key)?.values ?? []).filter((other) => other !== value);
    this.set(key, { values: on ? [...values, value] : values, list });
    this.apply();
  }

  set(key, changes) {
    this.chosen.set(key, { values: [], ...this.chosen.get(key), ...changes });
    this.drawn = this.chosen;
  }
}

function chip(text, away) {
  return button({ class: "chip", "aria-label": `Remove the filter ${text}`, on: { click: away } }, "close", name(text));
}

const share = (some, all) => (some === all ? "on all" : `on ${some} of ${all}`);
