/** Elements, made without HTML: what comes from an upload is only ever text. */

const SVG = "http://www.w3.org/2000/svg";

/** `properties`: attributes; `on`: listeners by event; `class`, `text`. Children: nodes, strings, or nothing. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "text") node.textContent = value;
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** One of the symbols at the end of index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon, a text, or both; with only an icon, `label` is what a screen reader says. */
export function button(properties, name, text) {
  return el("button", { type: "button", title: text ? null : properties["aria-label"], ...properties }, name && icon(name), text);
}

/** Text from an upload: its direction is its own and does not leak into what stands beside it. */
export const name = (text, properties = {}) => el("bdi", { ...properties, title: text.length > 200 ? null : text, text });

export const find = (selector, root = document) => root.querySelector(selector);

/** Runs `work` when it has not been asked for again for that long. */
export function settled(work, milliseconds) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

/** Says it to who cannot see it. */
export const announce = settled((text) => (find("#said").textContent = text), 400);

/** Runs `work` that long after it was asked for, once for all that ask meanwhile. */
export function gathered(work, milliseconds) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      work();
    }, milliseconds);
  };
}

/** 1234567 as 1 234 567 (ISO 80000-1); Intl needs 40 ms to do it for the first time. */
const whole = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
export const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;

export function bytes(size) {
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log(Math.max(1, size)) / Math.log(1000)));
  return `${Number((size / 1000 ** power).toPrecision(3))} ${units[power]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
