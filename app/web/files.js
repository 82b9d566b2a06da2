/** Collects the files that are dropped, pasted or chosen, from folders of any depth. */

const IMAGE =
	/\.(jpe?g|jpe|png|webp|gif|bmp|avif|tiff?|hei[cf]|jxl|arw|cr[23]|dng|nef|orf|raf|rw2)$/i;

/** @param {{type: string, name: string}} file */
export const isImage = (file) => file.type.startsWith("image/") || IMAGE.test(file.name);

/**
 * Returns the files of an input.
 * @returns {FoundFile[]}
 */
export const chosenFiles = (input) =>
	[...input.files].map((file) => ({
		file,
		folder: file.webkitRelativePath.split("/").at(-2) ?? "",
	}));

const fileItems = (transfer) => [...transfer.items].filter(({ kind }) => kind === "file");

/**
 * Resolves to the files of a drop or paste. Call it within the event: later the items are gone.
 * @returns {Promise<FoundFile[]>}
 */
export function droppedFiles(transfer) {
	const entries = fileItems(transfer).map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
	return collect(entries.filter(Boolean));
}

/** Returns whether a drop has several files or a folder. */
export const hasSeveral = (transfer) => {
	const files = fileItems(transfer);
	return files.length > 1 || Boolean(files[0]?.webkitGetAsEntry?.()?.isDirectory);
};

async function collect(entries) {
	/** @type {FoundFile[]} */
	const found = [];
	const walk = async (entry, folder) => {
		if (entry instanceof File) found.push({ file: entry, folder });
		else if (entry.isFile) found.push({ file: await readFile(entry), folder });
		else for (const child of await readFolder(entry)) await walk(child, entry.name);
	};
	for (const entry of entries) await walk(entry, "").catch(() => {}); // removed in the meantime
	return found;
}

const readFile = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

async function readFolder(entry) {
	const reader = entry.createReader();
	const all = [];
	for (;;) {
		// readEntries returns at most a hundred entries per call.
		const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
		if (!some.length) return all;
		all.push(...some);
	}
}
