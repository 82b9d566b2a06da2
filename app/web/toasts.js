/** Short messages at the edge of the page, and what can be done about them. */

import { button, el, find } from "./dom.js";

/** `action`: a label and what it does. Stays `seconds`, longer while it is looked at; gives a function that ends it. */
export function toast(text, { action, seconds = 6, error = false, onEnd } = {}) {
  const box = el("div", { class: error ? "toast error" : "toast", role: error ? "alert" : "status" }, el("span", { text }));
  let left = seconds * 1000;
  let timer;
  const end = () => {
    clearInterval(timer);
    box.remove();
    onEnd?.();
    onEnd = null;
  };
  if (action) {
    box.append(button({ class: "quiet", on: { click: () => { onEnd = null; end(); action.run(); } } }, null, action.label));
  }
  box.append(button({ class: "quiet", "aria-label": "Dismiss", on: { click: end } }, "close"));
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

document.addEventListener("close", follow, true);

export const failed = (problem) => toast(problem.message, { error: true, seconds: 10 });
