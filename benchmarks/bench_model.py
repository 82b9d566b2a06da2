"""Retrieval quality of a network, compared with the ImageNet network that it was made from.

    make bench-model BASE=imagenet.safetensors DATA='grocery-tested caltech101/test'

DATA are folders with one folder per class; neither network may have been trained on these classes.
The base is the bound to beat: it uses its own 2048 average-pooled features, the network its 512
numbers. Every image is a query among all others, and every altered copy is a query for its
original. Brackets are 95 % bootstrap intervals over queries; those of the difference are paired by
query.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.cli.console import show_stages
from benchmarks.service import make_parser
from models.calibration import LabelledHits
from models.embedder import load_embedder
from models.evaluate import (
    RankingMetrics,
    bootstrap_interval,
    embed_images,
    measure_robustness,
    rank_gallery,
)
from models.labelled_images import LabelledImages
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.cores import available_cores

METRICS = {"r1": "R@1", "map": "mAP", "map_at_r": "mAP@R"}


def measure_quality(
    weights: WeightsFile, images: LabelledImages
) -> tuple[RankingMetrics, dict[str, float], float | None]:
    """Return the metrics, R@1 of altered copies, and the expected calibration error.

    The last one is None if the weights are not calibrated.
    """
    cores = available_cores()
    embedder = load_embedder(weights, slots=cores)
    with show_stages() as progress:
        vectors = embed_images(embedder, images.paths, slots=cores, progress=progress)
        robustness = measure_robustness(embedder, images, vectors, slots=cores, progress=progress)
    metrics = rank_gallery(vectors, images.labels, vectors, images.labels, leave_out=True)
    error = None
    if weights.calibration:
        hits = LabelledHits.collect(vectors, images.labels)
        error = hits.expected_error(weights.calibration)
    return metrics, robustness, error


def format_mean(values: NDArray[np.float64]) -> str:
    low, high = bootstrap_interval(values)
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def compare(base: WeightsFile, model: WeightsFile, folder: Path, console: Console) -> None:
    """Measure both networks on one folder and print the table."""
    images = LabelledImages.read(folder)
    before, base_robustness, _ = measure_quality(base, images)
    after, model_robustness, error = measure_quality(model, images)
    title = f"{folder.name}: {len(images)} images of {len(set(images.labels))} classes, per cent"
    table = Table(box=None, title=title, title_justify="left")
    for column in ("", "base, 2048", "model, 512", "difference"):
        table.add_column(column, justify="right" if column else "left")
    for key, name in METRICS.items():
        old, new = 1.0 * before.per_query[key], 1.0 * after.per_query[key]
        table.add_row(name, format_mean(old), format_mean(new), format_mean(new - old))

    def add_robustness(name: str, old: float, new: float, style: str = "") -> None:
        numbers = (f"{100 * old:.1f}", f"{100 * new:.1f}", f"{100 * (new - old):+.1f}")
        table.add_row(name, *numbers, style=style)

    for name, old in base_robustness.items():
        add_robustness(f"{name}: R@1", old, model_robustness[name])
    means = [sum(each.values()) / len(each) for each in (base_robustness, model_robustness)]
    add_robustness("altered copies: R@1", *means, style="bold")
    console.print(table)
    if error is not None:
        console.print(f"Expected calibration error of the model's probabilities: {error:.3f}\n")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("base", type=Path, help="ImageNet weights under torchvision's names")
    parser.add_argument("data", type=Path, nargs="+", help="folders with one folder per class")
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_WEIGHTS, help="weights file; default: the shipped one"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    base, model = WeightsFile.load_base(arguments.base), WeightsFile.load(arguments.model)
    console = Console()
    for folder in arguments.data:
        compare(base, model, folder, console)


if __name__ == "__main__":
    main()
