/** Short messages at the edge of the page, and what can be done about them. */

import { button, el, find } from "./dom.js";

let last = () => {};

/**
 * `action`: a label, what it does, and its `keys`. Stays `seconds`, longer while it is looked at; gives a function that ends it, by
 * the action if `act`. One without an action goes when the next comes.
 */
export function toast(text, { action, seconds = 6, error = false, onEnd } = {}) {
  const box = el("div", { class: error ? "toast error" : "toast", role: error ? "alert" : "status" }, el("span", { text }));
  let left = seconds * 1000;
  let timer;
  let ended = false;
  const end = ({ act = false } = {}) => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    box.remove();
    if (act) action.run();
    else onEnd?.();
  };
  if (action) {
    const keys = { "aria-keyshortcuts": action.keys, title: action.keys?.replace("Control", "Ctrl") };
    box.append(button({ class: "quiet", ...keys, on: { click: () => end({ act: true }) } }, null, action.label));
  } else {
    last();
    last = end;
  }
  if (!onEnd) box.append(button({ class: "quiet", "aria-label": "Dismiss", on: { click: () => end() } }, "close")); // else it would do it now
  timer = setInterval(() => {
    if (box.matches(":hover, :focus-within")) return;
    left -= 250;
    if (left <= 0) end();
  }, 250);
  find("#toasts").append(box);
  follow();
  return end;
}

/** A modal dialog makes all outside it inert, so messages go where one can reach them. */
function follow() {
  const home = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (find("#toasts").parentNode !== home) home.append(find("#toasts"));
}

for (const moment of ["toggle", "close"]) document.addEventListener(moment, follow, true);

export const failed = (problem) => toast(problem.message, { error: true, seconds: 10 });
