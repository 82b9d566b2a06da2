/** Asks for the API key; it is kept for this tab alone. */

import { find } from "./dom.js";

/** The key that was typed, or null. `reason`: why the one before does not do. */
export function askForKey(reason) {
  const dialog = find("#key");
  const input = find("#key input");
  find("#key-wrong").textContent = reason;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    find("#key form").onsubmit = (event) => {
      event.preventDefault();
      dialog.close("given");
    };
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "given" ? input.value.trim() : null), { once: true });
  });
}
