/** The dialog that asks for the API key. */

import { find } from "./dom.js";

/**
 * Resolves to the key that the user entered, or null.
 * @param {string} reason why the previous key failed, or ""
 * @returns {Promise<string | null>}
 */
export function askForKey(reason) {
	const dialog = find("#key");
	const input = find("#key input");
	find("#key-error").textContent = reason;
	input.value = "";
	dialog.returnValue = "";
	dialog.showModal();
	return new Promise((resolve) => {
		const answer = () => resolve(dialog.returnValue === "given" ? input.value.trim() : null);
		find("#key form").onsubmit = (event) => {
			event.preventDefault();
			dialog.close("given");
		};
		dialog.addEventListener("close", answer, { once: true });
	});
}
