"""Measures how well a network retrieves images.

The metrics are recall at k, mean average precision, recall of originals by altered copies, and
throughput.
"""

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
from models.labelled_images import LabelledImages, load_image
from models.progress import ProgressCallback, ignore_progress

Vectors = NDArray[np.float32]
_QUERIES = 256  # per block, which limits the memory that the similarities take
_RESAMPLES = 1000
_MOST_ORIGINALS = 400  # that altered copies are made of
_CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class RankingMetrics:
    """The metrics of each query, and its top hits.

    ``queries`` is ``(m,)``: the indices of the queries that have a match in the gallery. The
    others are left out of the metrics. ``top_hits`` is ``(n, k)``: the gallery indices of the
    nearest images of every query. ``per_query`` maps the name of a metric to ``(m,)`` float64.
    """

    queries: NDArray[np.intp]
    top_hits: NDArray[np.intp]
    per_query: dict[str, NDArray[np.float64]]

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over the queries."""
        return {name: float(values.mean()) for name, values in self.per_query.items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 95 % confidence interval of each mean."""
        return {name: bootstrap_interval(values) for name, values in self.per_query.items()}

    def minus(self, other: RankingMetrics) -> RankingMetrics:
        """Return the differences from ``other``, query by query; it must have the same queries.

        The intervals of the differences are narrower than those of the two: the queries are paired.
        """
        per_query = {
            name: values - other.per_query[name] for name, values in self.per_query.items()
        }
        return RankingMetrics(self.queries, self.top_hits, per_query)


def bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the mean (percentiles; Efron & Tibshirani 1993, 13.3).

    ``values`` is ``(m,)``, one value per query. The random seed is fixed.
    """
    picks = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def rank_gallery(
    queries: Vectors,
    query_labels: list[str],
    gallery: Vectors,
    gallery_labels: list[str],
    *,
    leave_out: bool,
    keep: int = 10,
) -> RankingMetrics:
    """Rank the gallery for each query by exact cosine similarity.

    ``queries`` is ``(n, 512)`` and ``gallery`` ``(g, 512)`` float32, rows of length 1.
    ``leave_out`` says that both are the same images: no image then counts as its own hit.
    ``keep`` is the number of top hits to return per query.

    The metrics are ``r1``, ``r5`` and ``r10`` (1 if a match is among the first k hits), ``map``
    (average precision over all matches) and ``map_at_r`` (the precisions at the matches among the
    first R hits, divided by the number of matches R; Musgrave et al. 2020, eq. 5).
    """
    labels = np.array(gallery_labels)
    with_match, top_hits, rows = [], [], []
    for start in range(0, len(queries), _QUERIES):
        block = queries[start : start + _QUERIES]
        similarity = block @ gallery.T
        if leave_out:
            similarity[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")
        if leave_out:
            order = order[:, :-1]  # the query itself is last
        top_hits.append(order[:, :keep])
        for query, hits in enumerate(order, start):
            matches = labels[hits] == query_labels[query]
            if matches.any():
                with_match.append(query)
                rows.append(_measure_ranking(matches))
    names = (*(f"r{k}" for k in _CUTOFFS), "map", "map_at_r")
    per_query = {name: np.array([row[name] for row in rows]) for name in names}
    return RankingMetrics(np.array(with_match, dtype=np.intp), np.concatenate(top_hits), per_query)


def _measure_ranking(matches: NDArray[np.bool_]) -> dict[str, float]:
    """Compute the metrics of one query; ``matches`` is ``(g,)`` bool, nearest first."""
    total = int(matches.sum())
    places = np.flatnonzero(matches)
    precisions = np.arange(1, total + 1) / (places + 1)
    metrics = {f"r{k}": float(places[0] < k) for k in _CUTOFFS}
    metrics["map"] = float(precisions.mean())
    metrics["map_at_r"] = float(precisions[places < total].sum() / total)
    return metrics


def embed_images(
    embedder: Embedder,
    paths: list[Path],
    *,
    slots: int,
    alter: Callable[[Image.Image], Image.Image] | None = None,
    progress: ProgressCallback = ignore_progress,
    stage: str = "embedding",
) -> Vectors:
    """Embed image files as the service does, on ``slots`` threads.

    ``alter`` is applied to each decoded image first. Returns ``(n, dimension)`` float32, in the
    order of the paths. Raises ImageRejected or OSError for the first file that cannot be decoded.
    """
    preprocessing = embedder.preprocessing

    def embed_file(path: Path) -> Vectors:
        image = load_image(path, preprocessing)
        pixels = preprocessing.prepare(alter(image) if alter else image)
        row: Vectors = embedder.embed(pixels[None])[0]
        return row

    rows = []
    with ThreadPoolExecutor(slots) as pool:
        for done, row in enumerate(pool.map(embed_file, paths), start=1):
            rows.append(row)
            progress(stage, done, len(paths))
    return np.stack(rows)


def recompress_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Encode as a JPEG of this quality, 1 to 95, and decode it again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    file.seek(0)
    return Image.open(file).convert("RGB")


def _crop_half(image: Image.Image) -> Image.Image:
    """Crop to half of the area, off the centre, keeping the aspect ratio."""
    width, height = (round(side * 0.5**0.5) for side in image.size)
    left, top = (image.width - width) // 4, (image.height - height) // 4
    return image.crop((left, top, left + width, top + height))


def _shrink(image: Image.Image) -> Image.Image:
    """Scale so that the shorter side has 64 pixels."""
    scale = 64 / min(image.size)
    return image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )


def _add_border(image: Image.Image) -> Image.Image:
    """Add a white border of a fifth of the size on each side."""
    return ImageOps.expand(image, (image.width // 5, image.height // 5), fill=(255, 255, 255))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "rotated 90°": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "crop 50 %": _crop_half,
    "JPEG 30": lambda image: recompress_jpeg(image, 30),
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "small (64 px)": _shrink,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(min(image.size) / 75)),
    "bordered": _add_border,
}


def measure_robustness(
    embedder: Embedder,
    images: LabelledImages,
    gallery: Vectors,
    *,
    slots: int,
    progress: ProgressCallback = ignore_progress,
) -> dict[str, float]:
    """Measure for each alteration how often an altered copy has its original as the first hit.

    ``gallery`` ``(n, 512)`` holds the embeddings of ``images``. Up to 400 originals, spread evenly
    over the images, are altered. Returns R@1, 0 to 1, by the name of the alteration.
    """
    count = min(_MOST_ORIGINALS, len(images))
    originals = np.unique(np.linspace(0, len(images) - 1, count).astype(np.intp))
    paths = [images.paths[i] for i in originals]
    recall = {}
    for name, alter in ALTERATIONS.items():
        copies = embed_images(
            embedder, paths, slots=slots, alter=alter, progress=progress, stage=name
        )
        nearest = np.argmax(copies @ gallery.T, axis=1)
        recall[name] = float((nearest == originals).mean())
    return recall


def measure_throughput(
    embedder: Embedder, images: LabelledImages, *, slots: int, seconds: float = 3.0
) -> float:
    """Measure the embeddings per second of the network alone, on as many threads as slots."""
    preprocessing = embedder.preprocessing
    pixels = [
        preprocessing.prepare(load_image(path, preprocessing))[None] for path in images.paths[:32]
    ]
    until = time.monotonic() + seconds

    def embed_until_deadline(thread: int) -> int:
        done = 0
        while time.monotonic() < until:
            embedder.embed(pixels[(thread + done) % len(pixels)])
            done += 1
        return done

    start = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        done = sum(pool.map(embed_until_deadline, range(slots)))
    return done / (time.monotonic() - start)
