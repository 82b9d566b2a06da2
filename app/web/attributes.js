/** A form of attributes: rows of key and value, where 12 is a number, true a boolean, and [1, 2] a list. */

import { button, el } from "./dom.js";

export class AttributeForm {
  constructor(box) {
    this.rows = el("div", { class: "rows" });
    const add = button({ class: "quiet", on: { click: () => this.add("", "").firstChild.focus() } }, "plus", "Add an attribute");
    box.replaceChildren(this.rows, add);
  }

  set(attributes) {
    this.rows.replaceChildren();
    for (const [key, value] of Object.entries(attributes)) {
      const row = this.add(key, written(value));
      row.given = { key, value, shown: inputs(row) }; // fields change newlines and blanks
    }
  }

  add(key, value) {
    const row = el(
      "div",
      { class: "row" },
      el("input", { type: "text", "aria-label": "Key", placeholder: "colour", maxlength: 64, dir: "auto", value: key }),
      el("input", { type: "text", "aria-label": `Value of ${key || "the new attribute"}`, placeholder: "red", dir: "auto", value }),
      button({ class: "quiet", "aria-label": `Remove ${key || "this attribute"}`, on: { click: () => row.remove() } }, "close"),
    );
    this.rows.append(row);
    return row;
  }

  /** The attributes; raises Error where a key is there twice. */
  get() {
    const rows = [...this.rows.children].map((row) => entry(row)).filter(([key]) => key);
    const twice = rows.find(([key], index) => rows.findIndex(([other]) => other === key) < index);
    if (twice) throw new Error(`“${twice[0]}” is there twice. Give several values as a list: [1, 2].`);
    return Object.fromEntries(rows);
  }
}

const inputs = (row) => [row.children[0].value, row.children[1].value];

/** What was given where nobody changed it. */
function entry(row) {
  const [key, value] = inputs(row);
  const { given } = row;
  return [given?.shown[0] === key ? given.key : key.trim(), given?.shown[1] === value ? given.value : read(value)];
}

/** Text that would be read as something else is written in quotes. */
export function written(value) {
  if (typeof value !== "string") return JSON.stringify(value);
  return read(value) === value ? value : JSON.stringify(value);
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
