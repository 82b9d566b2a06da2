/** What is shown, kept in the URL so that a link shows the same; samples from files are kept for this tab alone. */

const changed = new EventTarget();
const samples = new Map(); // number -> sample; a file cannot be in a URL

/** `collection`, `filter` (JSON text), `like` (id), `box` (x,y,width,height), `mirror`, `master` (id), `sample`. */
export function current() {
  const given = new URLSearchParams(location.search);
  const sample = samples.get(history.state?.sample) ?? null;
  return {
    collection: given.get("collection") || "default",
    filter: given.get("filter") || "",
    like: sample ? "" : given.get("like") || "",
    box: given.get("box") || "",
    mirror: given.get("mirror") === "1",
    master: given.get("master") || "",
    sample,
  };
}

/** Change some of it. `replace`: without a step in the history. */
export function set(changes, { replace = false } = {}) {
  const next = { ...current(), ...changes };
  if (changes.sample) next.like = "";
  else if (changes.like) next.sample = null;
  const shown = {
    collection: next.collection === "default" ? "" : next.collection,
    filter: next.filter,
    like: next.like,
    box: next.like || next.sample ? next.box : "",
    mirror: (next.like || next.sample) && next.mirror ? "1" : "",
    master: next.master,
  };
  const query = new URLSearchParams(Object.entries(shown).filter(([, value]) => value));
  const address = query.size ? `/?${query}` : "/";
  const kept = { sample: next.sample ? numberOf(next.sample) : null };
  if (replace) history.replaceState(kept, "", address);
  else history.pushState(kept, "", address);
  changed.dispatchEvent(new Event("change"));
}

export function onChange(listener) {
  changed.addEventListener("change", listener);
  addEventListener("popstate", listener);
}

function numberOf(sample) {
  for (const [number, known] of samples) if (known === sample) return number;
  const number = `${performance.timeOrigin} ${samples.size}`; // after a reload, another: the file is not here any more
  samples.set(number, sample);
  return number;
}
