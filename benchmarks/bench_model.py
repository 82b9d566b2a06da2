"""The shipped model beside the ImageNet network it came from, on labelled folders whose classes neither was tuned on.

make bench-model BASE=imagenet.safetensors DATA='grocery-tested caltech101/test'

The base gives its own 2048 average-pooled numbers, the model its 512. Leave one out; in brackets 95 % bootstrap intervals over
queries, of the difference paired by query.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.cli.console import show_stages
from app.settings import cores
from models.calibration import Judged
from models.embedder import load_embedder
from models.evaluate import Ranked, embed, interval, rank, robustness
from models.labelled_images import LabelledImages
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

MEASURES = {"r1": "R@1", "map": "mAP", "map_at_r": "mAP@R"}


def scored(
    weights: WeightsFile, images: LabelledImages
) -> tuple[Ranked, dict[str, float], float | None]:
    """Ranks, R@1 of altered copies, and the expected calibration error if the weights are calibrated."""
    embedder = load_embedder(weights, slots=cores())
    with show_stages() as advance:
        vectors = embed(embedder, images.paths, slots=cores(), advance=advance)
        copies = robustness(embedder, images, vectors, slots=cores(), advance=advance)
    ranked = rank(vectors, images.labels, vectors, images.labels, leave_out=True)
    calibrated = weights.calibration
    error = Judged.of(vectors, images.labels).expected_error(calibrated) if calibrated else None
    return ranked, copies, error


def shown(values: NDArray[np.float64]) -> str:
    low, high = interval(values)
    return f"{100 * values.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument(
        "data", type=Path, nargs="+", help="folders that have a folder for each class"
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_WEIGHTS)
    arguments = parser.parse_args()
    base, model = WeightsFile.load_base(arguments.base), WeightsFile.load(arguments.model)
    console = Console()
    for folder in arguments.data:
        images = LabelledImages.read(folder)
        (first, his, _), (second, ours, error) = scored(base, images), scored(model, images)
        title = f"{folder.name}: {len(images)} images of {len(set(images.labels))} classes"
        table = Table(box=None, title=title, title_justify="left")
        for column in ("", "base, 2048", "model, 512", "difference"):
            table.add_column(column, justify="right" if column else "left")
        for key, name in MEASURES.items():
            before, after = 1.0 * first.measures[key], 1.0 * second.measures[key]
            table.add_row(name, shown(before), shown(after), shown(after - before))
        for name in his:
            table.add_row(
                f"{name}: R@1",
                f"{100 * his[name]:.1f}",
                f"{100 * ours[name]:.1f}",
                f"{100 * (ours[name] - his[name]):+.1f}",
            )
        means = [100 * sum(copies.values()) / len(copies) for copies in (his, ours)]
        table.add_row(
            "altered copies: R@1",
            *(f"{mean:.1f}" for mean in means),
            f"{means[1] - means[0]:+.1f}",
            style="bold",
        )
        console.print(table)
        if error is not None:
            console.print(f"Expected calibration error of the model's probabilities: {error:.3f}\n")


if __name__ == "__main__":
    main()
