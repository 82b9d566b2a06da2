/** Toasts: short messages at the edge of the page, some with an action. */

import { button, el, find } from "./dom.js";

let dismissLast = () => {};

/**
 * Shows a toast for some seconds, longer while it is hovered or focused. A toast without an action
 * gives way to the next one. Returns a function that ends it, with the action if `act` is set.
 * `onEnd` is called when the toast ends without its action; such a toast cannot be dismissed.
 * @param {string} text
 * @param {{action?: {label: string, keys?: string, run: () => void}, seconds?: number,
 *   error?: boolean, onEnd?: () => void}} options
 */
export function showToast(text, { action, seconds = 6, error = false, onEnd } = {}) {
	const role = error ? "alert" : "status";
	const box = el("div", { class: error ? "toast error" : "toast", role }, el("span", { text }));
	let left = seconds * 1000;
	let timer;
	let ended = false;
	const end = ({ act = false } = {}) => {
		if (ended) return;
		ended = true;
		clearInterval(timer);
		box.remove();
		if (act) action?.run();
		else onEnd?.();
	};
	if (action) {
		const title = action.keys?.replace("Control", "Ctrl");
		const click = () => end({ act: true });
		const properties = { class: "quiet", "aria-keyshortcuts": action.keys, title, on: { click } };
		box.append(button(properties, null, action.label));
	} else {
		dismissLast();
		dismissLast = end;
	}
	const dismiss = { class: "quiet", "aria-label": "Dismiss", on: { click: () => end() } };
	if (!onEnd) box.append(button(dismiss, "close"));
	timer = setInterval(() => {
		if (box.matches(":hover, :focus-within")) return;
		left -= 250;
		if (left <= 0) end();
	}, 250);
	find("#toasts").append(box);
	moveToDialog();
	return end;
}

/** Moves the toasts into the open modal dialog, because everything outside it is inert. */
function moveToDialog() {
	const home = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
	if (find("#toasts").parentNode !== home) home.append(find("#toasts"));
}

for (const type of ["toggle", "close"]) document.addEventListener(type, moveToDialog, true);

export const showError = (problem) => showToast(problem.message, { error: true, seconds: 10 });
