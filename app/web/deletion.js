/** Deleting a master: it is marked at once, and sent when the time to undo it has run out, or when the page goes. */

import * as api from "./api.js";
import { failed, toast } from "./toasts.js";

const SECONDS = 6;
const leaving = new Map(); // id -> end its toast, and so send
let told = { changed() {}, gone() {} };

/** `changed`: what is marked is another; `gone(id)`: it is deleted. */
export function onDeletion(listener) {
  told = listener;
}

export const isLeaving = (master) => leaving.has(master.id);

export function deleteSoon(master) {
  if (isLeaving(master)) return;
  const action = { label: "Undo", keys: "Control+Z", run: () => keep(master) };
  const send = () => sendNow(master.id);
  leaving.set(master.id, toast(`“\u2068${master.name}\u2069” is being deleted.`, { action, seconds: SECONDS, onEnd: send }));
  told.changed();
}

/** Keeps the one that was deleted last, if it is not gone. */
export function undo() {
  [...leaving.values()].at(-1)?.({ act: true });
}

function keep(master) {
  leaving.delete(master.id);
  told.changed();
}

async function sendNow(id, options) {
  try {
    await api.remove(id, options);
  } catch (problem) {
    if (problem.status !== 404) {
      leaving.delete(id);
      told.changed();
      failed(problem);
      return;
    }
  }
  told.gone(id);
  leaving.delete(id);
}

addEventListener("pagehide", () => {
  for (const id of leaving.keys()) sendNow(id, { keepalive: true });
});
