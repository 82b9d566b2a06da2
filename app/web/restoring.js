/** Offers to undo a deletion of several pictures, and brings them back. */

import * as api from "./api.js";
import { count } from "./format.js";
import { showError, showToast } from "./toasts.js";

const SECONDS = 20;

/**
 * Shows what was done, with a button that undoes it if it can be undone.
 * @param {string} text
 * @param {(() => unknown) | null | undefined | false | ""} undo
 */
export const offerUndo = (text, undo) =>
	showToast(text, undo ? { action: { label: "Undo", run: undo }, seconds: SECONDS } : {});

/**
 * Brings the pictures of a deletion back, says which are missing, and returns whether any is back.
 * @param {string} deletion
 * @param {() => void} changed
 */
export async function restore(deletion, changed) {
	try {
		const { restored, conflicts, held } = await api.undoDeletion(deletion);
		showToast(`${count(restored, "picture")} restored.`);
		if (conflicts) {
			const pictures = count(conflicts, "picture");
			showToast(`${pictures} not restored: the same file was uploaded again.`, { error: true });
		}
		if (held) {
			const action = { label: "Retry", run: () => restore(deletion, changed) };
			showToast(`${count(held, "picture")} not restored yet.`, { action, seconds: SECONDS });
		}
		return restored > 0;
	} catch (problem) {
		showError(problem);
		return false;
	} finally {
		changed();
	}
}
