/** Creates elements without parsing HTML, so that text from an upload is only ever text. */

const SVG = "http://www.w3.org/2000/svg";
const isGiven = (value) => value !== undefined && value !== null && value !== false;

/**
 * Creates an element. `properties` are attributes, except `on` (listeners by event), `text` and
 * `value`. Empty properties and children are left out.
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(properties)) {
		if (!isGiven(value)) continue;
		if (name === "on") {
			for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
		} else if (name === "text") node.textContent = value;
		else if (name === "value") node.value = value;
		else node.setAttribute(name, value === true ? "" : value);
	}
	node.append(...children.flat().filter(isGiven));
	return node;
}

/** Creates an icon from one of the symbols at the end of index.html. */
export function icon(name) {
	const svg = document.createElementNS(SVG, "svg");
	svg.setAttribute("class", "icon");
	svg.setAttribute("aria-hidden", "true");
	const use = document.createElementNS(SVG, "use");
	use.setAttribute("href", `#i-${name}`);
	svg.append(use);
	return svg;
}

/** Creates a button. One with an icon only shows its `aria-label` as a tooltip. */
export function button(properties, name, text) {
	const title = text ? null : properties["aria-label"];
	return el("button", { type: "button", title, ...properties }, name && icon(name), text);
}

/** Isolates text from an upload, so that its direction does not affect what stands beside it. */
export const isolated = (text) => el("bdi", { title: text.length > 200 ? null : text, text });

/** @returns {any} */
export const find = (selector, root = document) => root.querySelector(selector);

/** Delays `work` until nobody has called it for `milliseconds`. */
export function debounce(work, milliseconds) {
	let timer;
	return (...given) => {
		clearTimeout(timer);
		timer = setTimeout(() => work(...given), milliseconds);
	};
}

/** Announces text to screen readers. */
export const announce = debounce((text) => {
	find("#announcer").textContent = text;
}, 400);

/** Runs `work` once, `milliseconds` after the first of several calls. */
export function throttle(work, milliseconds) {
	let waiting = false;
	return () => {
		if (waiting) return;
		waiting = true;
		setTimeout(() => {
			waiting = false;
			work();
		}, milliseconds);
	};
}
