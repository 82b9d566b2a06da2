/** Files out of what is dropped, pasted or chosen; folders to any depth. */

const IMAGE = /\.(jpe?g|jpe|png|webp|gif|bmp|avif|hei[cf])$/i;

export const isImage = (file) => file.type.startsWith("image/") || IMAGE.test(file.name);

/** Of an input: files, each with the name of its folder. */
export const chosen = (input) =>
  [...input.files].map((file) => ({ file, folder: file.webkitRelativePath.split("/").at(-2) ?? "" }));

/** Of a drop or a paste. Must be called at once: afterwards the browser forgets. Gives a promise of files with their folders. */
export function dropped(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  return collect(entries.filter(Boolean));
}

/** Whether that is more than one file, or a folder. */
export const isMany = (transfer) => {
  const files = [...transfer.items].filter((item) => item.kind === "file");
  return files.length > 1 || Boolean(files[0]?.webkitGetAsEntry?.()?.isDirectory);
};

async function collect(entries) {
  const found = [];
  const walk = async (entry, folder) => {
    if (entry instanceof File) found.push({ file: entry, folder });
    else if (entry.isFile) found.push({ file: await new Promise((done, failed) => entry.file(done, failed)), folder });
    else for (const inside of await children(entry)) await walk(inside, entry.name);
  };
  for (const entry of entries) await walk(entry, "").catch(() => {}); // what went away meanwhile
  return found;
}

async function children(directory) {
  const reader = directory.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a hundred at a time
    if (!some.length) return all;
    all.push(...some);
  }
}
