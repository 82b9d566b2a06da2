/** Asks for the API key; it is kept for this tab alone. */

import { find } from "./dom.js";

/** The key that was typed, or null. `wrong`: the one before was not taken. */
export function askForKey(wrong) {
  const dialog = find("#key");
  const input = find("#key input");
  find("#key-wrong").hidden = !wrong;
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
