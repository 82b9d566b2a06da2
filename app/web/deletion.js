/** Deletes masters with a delay, so that a deletion can be undone until it is sent. */

import * as api from "./api.js";
import { showError, showToast } from "./toasts.js";

const SECONDS = 6;
/** @type {Map<string, (options?: {act?: boolean}) => void>} */
const scheduled = new Map(); // from ID to the function that ends the toast, which sends the request
let listener = { changed() {}, deleted(_id) {} };

/** `changed()`: other masters are marked for deletion. `deleted(id)`: a deletion was accepted. */
export function onDeletion(callbacks) {
	listener = callbacks;
}

export const isDeleting = (master) => scheduled.has(master.id);

/** @param {Master} master */
export function scheduleDeletion(master) {
	if (isDeleting(master)) return;
	const action = { label: "Undo", keys: "Control+Z", run: () => keep(master.id) };
	const text = `Deleting “\u2068${master.name || "Untitled"}\u2069”…`;
	const onEnd = () => sendDeletion(master.id);
	scheduled.set(master.id, showToast(text, { action, seconds: SECONDS, onEnd }));
	listener.changed();
}

/** Undoes the last deletion that has not been sent. */
export function undoDeletion() {
	[...scheduled.values()].at(-1)?.({ act: true });
}

function keep(id) {
	scheduled.delete(id);
	listener.changed();
}

async function sendDeletion(id, options = {}) {
	try {
		await api.deleteMaster(id, options);
	} catch (problem) {
		if (problem.status !== 404) {
			keep(id);
			showError(problem);
			return;
		}
	}
	listener.deleted(id);
	scheduled.delete(id);
}

addEventListener("pagehide", () => {
	for (const id of scheduled.keys()) sendDeletion(id, { keepalive: true });
});
