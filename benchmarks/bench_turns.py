"""How often a turned image finds its original first, without and with turns and mirror.

    make bench-turns DATA='folder ...' [ORIGINALS=200]

All images of the folders are the gallery. Copies of some of them are turned, mirrored or both, and
saved as JPEG. Each is a query, whose nearest view counts.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from models.embedder import Embedder, load_embedder
from models.evaluate import embed_images
from models.labelled_images import find_image_files, load_image
from models.orientations import Orientation, list_orientations, orient_input
from storage.cores import available_cores

COPIES = {
    "turned by 90°": Orientation(1),
    "turned by 180°": Orientation(2),
    "turned by 270°": Orientation(3),
    "mirrored": Orientation(0, mirrored=True),
    "mirrored and turned by 90°": Orientation(3, mirrored=True),
}
SEARCHES = {
    "plain": list_orientations(mirror=False, turns=False),
    "mirror": list_orientations(mirror=True, turns=False),
    "turns": list_orientations(mirror=False, turns=True),
    "both": list_orientations(mirror=True, turns=True),
}


def make_copy(image: Image.Image, orientation: Orientation) -> Image.Image:
    """Turn and mirror an image, save it as JPEG, and load that."""
    copy = Image.fromarray(orient_input(np.asarray(image), orientation))
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=85)
    return Image.open(file).convert("RGB")


def find_first(
    embedder: Embedder, query: Image.Image, gallery: NDArray[np.float32]
) -> dict[str, int]:
    """Return the number of the nearest image of the gallery for each kind of search."""
    pixels = embedder.preprocessing.prepare(query)
    views = {
        each: embedder.embed(orient_input(pixels, each)[None], all_cores=True)[0]
        for each in SEARCHES["both"]
    }
    return {
        name: int((gallery @ np.array([views[each] for each in orientations]).T).max(1).argmax())
        for name, orientations in SEARCHES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--originals", type=int, default=200)
    given = parser.parse_args()
    paths = [path for folder in given.data for path in find_image_files(folder)]
    embedder = load_embedder(slots=available_cores())
    gallery = embed_images(embedder, paths, slots=available_cores())
    chosen = np.unique(np.linspace(0, len(paths) - 1, given.originals).astype(np.intp))
    table = Table(title=f"{len(chosen)} originals among {len(paths)} images, found first in %")
    for column in ("copy", *SEARCHES):
        table.add_column(column)
    start = time.monotonic()
    for name, orientation in COPIES.items():
        found = dict.fromkeys(SEARCHES, 0)
        for number in chosen:
            copy = make_copy(load_image(paths[number]), orientation)
            for search, first in find_first(embedder, copy, gallery).items():
                found[search] += first == number
        table.add_row(name, *(f"{100 * hits / len(chosen):.1f}" for hits in found.values()))
    Console().print(table, f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
