"""Search by words with the built-in words: class names as queries over labelled folders.

    make bench-words DATA='caltech101 caltech101/test'

DATA are folders with one folder per class, at any depth. A query is the name of a class in plain
words: ``Red-Beet`` becomes ``red beet``. All images of the folder are ranked by their exact cosine
with the query. P@10 is the share of matches among the first ten hits, R@10 the share of queries
with a match among them. With feedback, a second search starts from the first ten hits. A hundred
nonsense queries, in ``nonsense_queries.txt``, show whether nonsense is recognised.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from app.cli.console import show_stages
from benchmarks.reporting import make_table
from benchmarks.service import make_parser
from models.class_names import name_class, rank_names
from models.embedder import load_embedder
from models.evaluate import Vectors, embed_images
from models.labelled_images import LabelledImages
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from models.words.feedback import refine_query
from models.words.look_words import UNDERSTOOD, EmbeddedText, LookWords
from storage.cores import available_cores

NONSENSE = Path(__file__).parent / "nonsense_queries.txt"
Embed = Callable[[str], EmbeddedText]


@dataclass(frozen=True)
class FolderScores:
    """The scores of one folder, with and without feedback, each by metric."""

    name: str
    images: int
    names: list[str]
    queries: list[EmbeddedText]
    plain: dict[str, float]
    with_feedback: dict[str, float]
    distances: dict[str, NDArray[np.float32]]  # of the first ten hits: of matches, and of others


def score_rankings(
    queries: Vectors, names: list[str], gallery: Vectors, labels: list[str]
) -> tuple[dict[str, float], NDArray[np.intp]]:
    """Return P@10, R@10 and mAP of the queries, and ``(n, 10)`` the indices of their hits."""
    ranking = rank_names(names, queries, gallery, labels)
    return ranking.means(), ranking.top_hits


def score_folder(folder: Path, vectors: Vectors, labels: list[str], embed: Embed) -> FolderScores:
    """Search the folder's images for each of its class names."""
    names = sorted(set(labels))
    queries = [embed(name) for name in names]
    rows = np.stack([query.vector for query in queries])
    plain, hits = score_rankings(rows, names, vectors, labels)
    refined = np.stack(
        [
            refine_query(query.vector, vectors[found], query.understood)
            for query, found in zip(queries, hits, strict=True)
        ]
    )
    with_feedback, _ = score_rankings(refined, names, vectors, labels)
    distances = split_distances(rows, names, vectors, labels, hits)
    return FolderScores(folder.name, len(labels), names, queries, plain, with_feedback, distances)


def split_distances(
    queries: Vectors, names: list[str], gallery: Vectors, labels: list[str], hits: NDArray[np.intp]
) -> dict[str, NDArray[np.float32]]:
    """Return the cosine distances of the hits that match, and of the others."""
    distances = 1 - np.einsum("qd,qhd->qh", queries, gallery[hits])
    match = np.array(labels)[hits] == np.array(names)[:, None]
    return {"matches": distances[match], "others": distances[~match]}


def measure_latency(texts: list[str], embed: Embed) -> float:
    """Return the median time of a query in milliseconds, on one core."""
    times = []
    for text in texts:
        start = time.perf_counter()
        embed(text)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def share_not_understood(queries: list[EmbeddedText]) -> float:
    return float(np.mean([query.understood < UNDERSTOOD for query in queries]))


def print_scores(scores: list[FolderScores], console: Console) -> None:
    table = make_table(
        "Class names as queries, per cent", "", "queries", "images", "P@10", "R@10", "mAP",
        "not understood",
    )  # fmt: skip
    for each in scores:
        refused = f"{100 * share_not_understood(each.queries):.1f}"
        for name, row in (("", each.plain), (", with feedback", each.with_feedback)):
            numbers = [f"{100 * row[key]:.1f}" for key in ("p10", "r10", "map")]
            table.add_row(
                each.name + name, str(len(each.queries)), str(each.images), *numbers, refused
            )
    console.print(table)
    table = make_table("Distances of the first ten hits", "", "hits", "5 %", "median", "95 %")
    for each in scores:
        for name, distances in each.distances.items():
            if len(distances):
                low, median, high = np.percentile(distances, [5, 50, 95])
                numbers = (f"{low:.2f}", f"{median:.2f}", f"{high:.2f}")
                table.add_row(f"{each.name}, {name}", str(len(distances)), *numbers)
    console.print(table)


def summarise(
    scores: list[FolderScores], nonsense: list[EmbeddedText], ms: float
) -> dict[str, float]:
    """Return the means over the queries of all folders, and what was not understood."""
    counts = [len(each.queries) for each in scores]

    def mean(rows: list[dict[str, float]], key: str) -> float:
        return round(float(np.average([row[key] for row in rows], weights=counts)), 4)

    plain = [each.plain for each in scores]
    with_feedback = [each.with_feedback for each in scores]
    queries = [query for each in scores for query in each.queries]
    return {
        **{key: mean(plain, key) for key in ("p10", "r10", "map")},
        **{f"{key}_feedback": mean(with_feedback, key) for key in ("p10", "r10", "map")},
        "queries": len(queries),
        "names_not_understood": round(share_not_understood(queries), 4),
        "nonsense": len(nonsense),
        "nonsense_not_understood": round(share_not_understood(nonsense), 4),
        "ms": round(ms, 1),
    }


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("data", type=Path, nargs="+", help="folders with one folder per class")
    parser.add_argument("--coarse", action="store_true", help="take the first level of folders")
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_WEIGHTS, help="weights file; default: the shipped one"
    )
    arguments = parser.parse_args()
    for folder in arguments.data:
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}: set DATA to one with a folder per class")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    weights = WeightsFile.load(arguments.model)
    cores = available_cores()
    embedder, words = load_embedder(weights, slots=cores), LookWords()

    def embed(text: str) -> EmbeddedText:
        return words.embed_text(text, weights)

    scores = []
    for folder in arguments.data:
        images = LabelledImages.read(folder, gallery=True)
        with show_stages() as progress:
            vectors = embed_images(embedder, images.paths, slots=cores, progress=progress)
        labels = [name_class(label, coarse=arguments.coarse) for label in images.labels]
        scores.append(score_folder(folder, vectors, labels, embed))
    nonsense = [embed(line) for line in NONSENSE.read_text(encoding="utf-8").splitlines()]
    names = [name for each in scores for name in each.names]
    print_scores(scores, Console())
    print(json.dumps(summarise(scores, nonsense, measure_latency(names, embed))))


if __name__ == "__main__":
    main()
