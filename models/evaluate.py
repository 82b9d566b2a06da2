"""How well a model retrieves: recall at k, mean average precision, and whether altered copies find their original."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from models.embedder import Embedder
from models.labelled_images import Advance, LabelledImages, batches, load, silent
from models.transforms import to_input

Vectors = NDArray[np.float32]
_QUERIES = 256  # ranked at a time: bounds the memory to so many rows of similarities
_RESAMPLES = 1000
_COPIES_OF = 400  # originals at most that are looked for by altered copies


@dataclass(frozen=True)
class Ranked:
    """For each query its measures, and the gallery numbers of its first hits.

    Queries with nothing to find are left out of the measures: ``counted`` has the numbers of the others.
    """

    counted: NDArray[np.intp]
    first: NDArray[np.intp]  # (queries, k)
    measures: dict[str, NDArray[np.float64]]  # name -> one value a counted query

    def means(self) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in self.measures.items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        return {name: interval(values) for name, values in self.measures.items()}


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over queries (percentiles; Efron & Tibshirani 1993, 13.3)."""
    picks = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def rank(
    queries: Vectors,
    labels: list[str],
    gallery: Vectors,
    theirs: list[str],
    *,
    leave_out: bool,
    keep: int = 10,
) -> Ranked:
    """Rank a gallery for each query by cosine, exactly.

    ``leave_out``: queries and gallery are the same images, and none counts as its own hit. The measures: ``r1``, ``r5``,
    ``r10`` (is one of the first k of the class), ``map`` (average precision over all relevant) and ``map_at_r`` (the mean of
    the precisions at the relevant among the first R, over R, with R relevant in all; Musgrave et al. 2020, eq. 5).
    """
    named = np.array(theirs)
    counted, first = [], []
    rows: dict[str, list[float]] = {name: [] for name in ("r1", "r5", "r10", "map", "map_at_r")}
    for some in batches(len(queries), _QUERIES):
        similarity = queries[some.start : some.stop] @ gallery.T
        if leave_out:
            similarity[np.arange(len(some)), list(some)] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")
        if leave_out:
            order = order[:, :-1]
        first.append(order[:, :keep])
        for query, ranks in zip(some, order, strict=True):
            relevant = named[ranks] == labels[query]
            total = int(relevant.sum())
            if not total:
                continue
            counted.append(query)
            places = np.flatnonzero(relevant)
            precisions = np.arange(1, total + 1) / (places + 1)
            for k in (1, 5, 10):
                rows[f"r{k}"].append(float(places[0] < k))
            rows["map"].append(float(precisions.mean()))
            rows["map_at_r"].append(float(precisions[places < total].sum() / total))
    measures = {name: np.array(values) for name, values in rows.items()}
    return Ranked(np.array(counted, dtype=np.intp), np.concatenate(first), measures)


def embed(
    embedder: Embedder,
    paths: list[Path],
    *,
    slots: int,
    alter: Callable[[Image.Image], Image.Image] | None = None,
    advance: Advance = silent,
    stage: str = "embedding",
) -> Vectors:
    """``(n, 512)`` float32 of the images as the service embeds them; altered before, if asked."""

    def one(path: Path) -> Vectors:
        image = load(path)
        row: Vectors = embedder.embed(to_input(alter(image) if alter else image)[None])[0]
        return row

    rows = []
    with ThreadPoolExecutor(slots) as pool:
        for number, row in enumerate(pool.map(one, paths), start=1):
            rows.append(row)
            advance(stage, number, len(paths))
    return np.stack(rows)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """As it comes back from a JPEG of that quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image) -> Image.Image:
    """Half of its area, off the centre, in its own shape."""
    width, height = (round(side * 0.5**0.5) for side in image.size)
    left, top = (image.width - width) // 4, (image.height - height) // 4
    return image.crop((left, top, left + width, top + height))


def _small(image: Image.Image) -> Image.Image:
    scale = 64 / min(image.size)
    return image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "rotated 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "crop 50 %": _cropped,
    "JPEG 30": lambda image: jpeg(image, 30),
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "small (64 px)": _small,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(min(image.size) / 75)),
    "bordered": lambda image: ImageOps.expand(
        image, (image.width // 5, image.height // 5), fill=(255, 255, 255)
    ),
}


def robustness(
    embedder: Embedder,
    images: LabelledImages,
    gallery: Vectors,
    *,
    slots: int,
    advance: Advance = silent,
) -> dict[str, float]:
    """R@1 of finding the original among all by an altered copy of it, for each kind of copy; of 400 originals at most."""
    chosen = np.unique(
        np.linspace(0, len(images) - 1, min(_COPIES_OF, len(images))).astype(np.intp)
    )
    paths = [images.paths[i] for i in chosen]
    found = {}
    for name, alter in COPIES.items():
        copies = embed(embedder, paths, slots=slots, alter=alter, advance=advance, stage=name)
        found[name] = float((np.argmax(copies @ gallery.T, axis=1) == chosen).mean())
    return found


def embeddings_a_second(
    embedder: Embedder, images: LabelledImages, *, slots: int, seconds: float = 3.0
) -> float:
    """The network alone, on as many threads as it has slots."""
    pixels = [to_input(load(path))[None] for path in images.paths[:32]]
    until = time.monotonic() + seconds

    def work(number: int) -> int:
        done = 0
        while time.monotonic() < until:
            embedder.embed(pixels[(number + done) % len(pixels)])
            done += 1
        return done

    start = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        done = sum(pool.map(work, range(slots)))
    return done / (time.monotonic() - start)
