/** Loads pictures of masters: by URL, or with fetch where a key is needed. */

import { key, request } from "./api.js";

const SIZES = [128, 256, 512, 1024]; // few, so that caches hit

/** Returns the smallest thumbnail that fills so many CSS pixels. */
export function thumbnailSize(pixels, ratio = devicePixelRatio) {
	const wanted = pixels * Math.min(2, ratio);
	return SIZES.find((size) => size >= wanted * 0.9) ?? 1024;
}

/**
 * Loads a thumbnail. `data-state` becomes `shown` or `missing`. Call `release` afterwards.
 * @param {Master} master
 */
export function show(image, master, size) {
	const path = `${master.links.thumbnail}?size=${size}`;
	trackLoading(image);
	if (!key()) {
		image.src = path;
		return;
	}
	const stop = new AbortController();
	image.release = () => stop.abort();
	request(path, { signal: stop.signal, cache: "default", quiet: true })
		.then((response) => response.blob())
		.then((blob) => {
			if (!stop.signal.aborted) setSource(image, blob);
		})
		.catch((error) => {
			if (error.name !== "AbortError") image.dataset.state = "missing";
		});
}

/** Shows a local file. */
export function showFile(image, file) {
	trackLoading(image);
	setSource(image, file);
}

function trackLoading(image) {
	image.onload = () => {
		image.dataset.state = "shown";
	};
	image.onerror = () => {
		image.dataset.state = "missing";
	};
	image.dataset.state = "loading";
}

function setSource(image, blob) {
	const url = URL.createObjectURL(blob);
	image.release = () => URL.revokeObjectURL(url);
	image.src = url;
}

/** Stops loading and frees the memory of a picture. */
export function release(image) {
	image.release?.();
	image.onload = image.onerror = image.release = null;
	image.removeAttribute("src");
}

/**
 * Opens the original in a new tab.
 * @param {Master} master
 */
export async function openOriginal(master) {
	if (!key()) {
		open(master.links.content, "_blank", "noopener");
		return;
	}
	const response = await request(master.links.content, { cache: "default" });
	const url = URL.createObjectURL(await response.blob());
	open(url, "_blank", "noopener");
	setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
