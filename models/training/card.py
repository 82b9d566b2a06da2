"""Writes the model card of a fine-tuning: data, scores, hyperparameters, and plots of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.calibration import LabelledHits
from models.labelled_images import LabelledImages
from models.training.finetune import FinetuningResult
from models.training.recipe import Recipe


@dataclass(frozen=True)
class EvaluationScores:
    """Scores on a separate set of images whose classes took no part in the training.

    ``before`` and ``after`` map the name of a metric to its mean; the expected calibration error is
    that of the fine-tuned network.
    """

    name: str
    images: int
    before: dict[str, float]
    after: dict[str, float]
    calibration_error: float


_BLUE, _ORANGE, _GREY, _GREEN = "#0969da", "#bc4c00", "#8c959f", "#1a7f37"
_LOSS_PARTS = (("classes", _ORANGE), ("instances", _GREEN), ("kept", _GREY))
_METRIC_NAMES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "map_at_r": "mAP@R"}
_MOST_LISTED = {"classes": 40, "broken": 20}
mpl.use("agg")

_CARD = """# {result.version}

ResNet-50 with {recipe.pooling} pooling and 512 dimensions, fine-tuned from `{base}`. The weights
are in `{result.weights.name}`.

## Data
{images} images of {classes} classes from `{data.root.name}`. {broken}

{held_out_images} images of {held_out_classes} classes were held out and never trained on. They
decided when to stop, and the calibration was fitted to them. The classes: {held_out_names}.

## Scores on the held-out classes, leaving one out
| | base | fine-tuned |
|---|---|---|
{held_out_rows}
![Scores on the held-out classes](recall.png)
{test_section}
## Training
{hyperparameters}

The loss has three parts. `classes` draws images of one class together and pushes others apart.
`instances` keeps altered views of one image together. `kept` measures how far the similarities
between different images have moved from those of the base. After the training the projection is
fitted again, so the scores above are not those of the last step.

![Loss per training step](training.png)

## Distances
The plot shows the cosine distances of held-out images to their ten nearest images, and again to
their ten nearest images of other classes.

![Distances of images of the same class and of other classes](distances.png)

## Calibration
`p = 1 / (1 + exp({calibration.slope:.3f} * distance - {calibration.intercept:.3f}))` is the
probability that one of the first ten hits shows the same thing, if half of the queries have no
match in the collection. The expected calibration error on the classes that it was fitted to is
{calibration_error:.3f}.

![Predicted probability and actual share of matches](reliability.png)
"""
_TEST_SECTION = """
## Scores on other classes, leaving one out
`{scores.name}` has {scores.images} images. The expected calibration error there is
{scores.calibration_error:.3f}.

| | base | fine-tuned |
|---|---|---|
{rows}"""


def write_card(
    out: Path,
    result: FinetuningResult,
    data: LabelledImages,
    recipe: Recipe,
    base: str,
    test_scores: EvaluationScores | None = None,
) -> Path:
    """Write ``README.md`` and its plots into the directory ``out``; return the card's path.

    ``base`` is the file name of the weights that the fine-tuning started from.
    """
    hits = LabelledHits.collect(result.vectors, result.labels)
    _save_plot(out / "training.png", lambda axes: _plot_losses(axes, result))
    _save_plot(out / "recall.png", lambda axes: _plot_scores(axes, result))
    _save_plot(out / "distances.png", lambda axes: _plot_distances(axes, hits))
    _save_plot(out / "reliability.png", lambda axes: _plot_reliability(axes, hits, result))
    test_section = ""
    if test_scores:
        rows = _format_rows(test_scores.before, test_scores.after)
        test_section = _TEST_SECTION.format(scores=test_scores, rows=rows)
    held_out = Counter(result.labels)
    text = _CARD.format(
        result=result,
        recipe=recipe,
        base=base,
        data=data,
        images=len(data),
        classes=len(set(data.labels)),
        broken=_format_broken(data.broken),
        held_out_images=len(result.labels),
        held_out_classes=len(held_out),
        held_out_names=_format_names(sorted(held_out)),
        held_out_rows=_format_rows(result.before, result.after),
        test_section=test_section,
        hyperparameters="\n".join(f"- {name}: {value}" for name, value in asdict(recipe).items()),
        calibration=result.calibration,
        calibration_error=hits.expected_error(result.calibration),
    )
    path = out / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def _format_broken(broken: list[tuple[Path, str]]) -> str:
    if not broken:
        return "All of them could be read."
    most = _MOST_LISTED["broken"]
    listed = "".join(f"\n- {path.name}: {reason}" for path, reason in broken[:most])
    shown = f"; the first {most} are" if len(broken) > most else ""
    return f"{len(broken)} further files could not be read{shown}:\n{listed}"


def _format_names(names: list[str]) -> str:
    most = _MOST_LISTED["classes"]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")


def _format_rows(before: dict[str, float], after: dict[str, float]) -> str:
    return "".join(
        f"| {name} | {before[key]:.4f} | {after[key]:.4f} |\n"
        for key, name in _METRIC_NAMES.items()
    )


def _save_plot(path: Path, draw: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.savefig(path, dpi=120)


def _plot_losses(axes: Axes, result: FinetuningResult) -> None:
    steps = np.array([row["step"] for row in result.history])
    for name, colour in (("loss", _BLUE), *_LOSS_PARTS):
        values = np.array([row[name] for row in result.history])
        width = max(1, min(15, len(values) // 10))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        label = "total" if name == "loss" else name
        axes.plot(steps[width - 1 :], smooth, color=colour, label=label)
    axes.set(xlabel="training step", ylabel="loss, smoothed", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _plot_scores(axes: Axes, result: FinetuningResult) -> None:
    places = np.arange(len(_METRIC_NAMES))
    for shift, scores, colour, label in (
        (-0.2, result.before, _GREY, "base"),
        (0.2, result.after, _BLUE, "fine-tuned"),
    ):
        heights = [scores[key] for key in _METRIC_NAMES]
        bars = axes.bar(places + shift, heights, 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axes.set(ylabel="mean over queries", ylim=(0, 1.08), yticks=np.arange(0, 1.01, 0.2))
    axes.set_xticks(places, list(_METRIC_NAMES.values()))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _plot_distances(axes: Axes, hits: LabelledHits) -> None:
    bins = np.linspace(0, max(0.01, hits.distances.max()), 50)
    for same, colour, name in ((True, _BLUE, "same class"), (False, _ORANGE, "other class")):
        chosen = hits.distances[hits.same == same]
        axes.hist(chosen, bins=list(bins), color=colour, alpha=0.6, label=f"{name} ({len(chosen)})")
    axes.set(xlabel="cosine distance", ylabel="number of hits")
    axes.legend(frameon=False)


def _plot_reliability(axes: Axes, hits: LabelledHits, result: FinetuningResult) -> None:
    predicted, actual, counts = zip(*hits.reliability(result.calibration), strict=True)
    sizes = [20 + 300 * count / max(counts) for count in counts]
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", label="perfect calibration")
    axes.plot(predicted, actual, color=_BLUE)
    axes.scatter(predicted, actual, sizes, color=_BLUE, label="size: number of hits", clip_on=False)
    axes.set(
        xlabel="predicted probability",
        ylabel="share of hits of the same class",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(frameon=False, loc="upper left")
