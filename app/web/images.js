/** Pictures of masters: by their address, or fetched with the key where one is needed. */

import { key, request } from "./api.js";

const sizes = [128, 256, 512, 1024]; // few, so that caches hit

/** The smallest thumbnail that fills so many pixels of the page. */
export function thumbnailSize(pixels) {
  const wanted = pixels * Math.min(2, devicePixelRatio);
  return sizes.find((size) => size >= wanted * 0.9) ?? sizes.at(-1);
}

/** Shows the master in `image`; `data-state` becomes `shown` or `missing`. Ended by `release`. */
export function show(image, master, size) {
  const path = `${master.links.thumbnail}?size=${size}`;
  image.onload = () => (image.dataset.state = "shown");
  image.onerror = () => (image.dataset.state = "missing");
  image.dataset.state = "loading";
  if (!key()) {
    image.src = path;
    return;
  }
  const stop = new AbortController();
  image.release = () => stop.abort();
  request(path, { signal: stop.signal, cache: "default", quiet: true })
    .then((response) => response.blob())
    .then((blob) => {
      if (!stop.signal.aborted) own(image, blob);
    })
    .catch((error) => {
      if (error.name !== "AbortError") image.dataset.state = "missing";
    });
}

/** Shows bytes that are here. */
export function own(image, blob) {
  const address = URL.createObjectURL(blob);
  image.release = () => URL.revokeObjectURL(address);
  image.src = address;
}

/** Stops loading, frees what was fetched. */
export function release(image) {
  image.release?.();
  image.onload = image.onerror = image.release = null;
  image.removeAttribute("src");
}

/** Opens the original in a tab of its own. */
export async function openOriginal(master) {
  if (!key()) {
    open(master.links.content, "_blank", "noopener");
    return;
  }
  const blob = await (await request(master.links.content, { cache: "default" })).blob();
  const address = URL.createObjectURL(blob);
  open(address, "_blank", "noopener");
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
