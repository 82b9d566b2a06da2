"""The model card of a fine-tuning: what it was made from and how, what it scores, and pictures of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.calibration import Judged
from models.labelled_images import LabelledImages
from models.training.finetune import Outcome, Recipe


@dataclass(frozen=True)
class Tested:
    """Scores of other classes, before and after, and the calibration error after."""

    name: str
    images: int
    before: dict[str, float]
    after: dict[str, float]
    calibration_error: float


_BLUE, _ORANGE, _GREY, _GREEN = "#0969da", "#bc4c00", "#8c959f", "#1a7f37"
_PARTS = (("classes", _ORANGE), ("instances", _GREEN), ("kept", _GREY))
_SHOWN = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "map_at_r": "mAP@R"}
mpl.use("agg")


def write_card(
    out: Path,
    outcome: Outcome,
    data: LabelledImages,
    recipe: Recipe,
    base: str,
    tested: Tested | None = None,
) -> Path:
    """``README.md`` with its plots beside the weights."""
    _plot(out / "training.png", lambda axes: _training(axes, outcome))
    _plot(out / "recall.png", lambda axes: _recall(axes, outcome))
    _plot(out / "distances.png", lambda axes: _distances(axes, outcome))
    _plot(out / "reliability.png", lambda axes: _reliability(axes, outcome))
    held = Counter(outcome.labels)
    broken = "".join(f"- {path.name}: {why}\n" for path, why in data.broken[:20])
    error = Judged.of(outcome.vectors, outcome.labels).expected_error(outcome.calibration)
    held_rows = _rows(outcome.before, outcome.after)
    test = ""
    if tested:
        test = f"""
## Scores on other classes, leave one out
`{tested.name}`: {tested.images} images. Expected calibration error: {tested.calibration_error:.3f}.

| | base | fine-tuned |
|---|---|---|
{_rows(tested.before, tested.after)}"""
    text = f"""# {outcome.version}

ResNet-50, {recipe.pooling} pooling, 512 dimensions, fine-tuned from `{base}`. File: `{outcome.weights.name}`.

## Data
{len(data)} images of {len(set(data.labels))} classes from `{data.root.name}`; {len(data.broken)} could not be read{" (first 20):" if broken else "."}
{broken}
Held out: {len(outcome.labels)} images of {len(held)} classes, never learned from. They decided when to stop and fitted the calibration:
{", ".join(sorted(held)[:40])}{" and others" if len(held) > 40 else ""}.

## Scores on the held-out classes, leave one out
| | base | fine-tuned |
|---|---|---|
{held_rows}
![recall](recall.png)
{test}
## Training
{chr(10).join(f"- {name}: {value}" for name, value in asdict(recipe).items())}

The loss has three parts: `classes` brings images of one class together and others apart; `instances` holds altered views of one image together; `kept`
is how far the similarities between different images have gone from the base's. After the training the projection is fitted anew, so the
scores above are not those of the last step.

![training](training.png)

## Distances
Cosine distances of held-out images to their ten nearest, and again to their ten nearest of other classes.

![distances](distances.png)

## Calibration
p = 1 / (1 + exp({outcome.calibration.slope:.3f} * distance - {outcome.calibration.intercept:.3f})): the probability that a hit among the
first ten shows the same thing, where half of what is looked for is there and half is not. Expected calibration error on the classes it was fitted on: {error:.3f}.

![reliability](reliability.png)
"""
    path = out / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def _rows(before: dict[str, float], after: dict[str, float]) -> str:
    return "".join(
        f"| {name} | {before[key]:.4f} | {after[key]:.4f} |\n" for key, name in _SHOWN.items()
    )


def _plot(path: Path, draw: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.savefig(path, dpi=120)


def _training(axes: Axes, outcome: Outcome) -> None:
    steps = np.array([row["step"] for row in outcome.history])
    for name, colour in (("loss", _BLUE), *_PARTS):
        values = np.array([row[name] for row in outcome.history])
        width = max(1, min(15, len(values) // 10))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], smooth, color=colour, label="all" if name == "loss" else name)
    axes.set(xlabel="step", ylabel="loss, smoothed", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _recall(axes: Axes, outcome: Outcome) -> None:
    places = np.arange(len(_SHOWN))
    for shift, scores, colour, label in (
        (-0.2, outcome.before, _GREY, "base"),
        (0.2, outcome.after, _BLUE, "fine-tuned"),
    ):
        bars = axes.bar(
            places + shift, [scores[key] for key in _SHOWN], 0.38, color=colour, label=label
        )
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axes.set(ylabel="held-out classes", ylim=(0, 1.08), yticks=np.arange(0, 1.01, 0.2))
    axes.set_xticks(places, list(_SHOWN.values()))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _distances(axes: Axes, outcome: Outcome) -> None:
    judged = Judged.of(outcome.vectors, outcome.labels)
    bins = np.linspace(0, max(0.01, judged.distances.max()), 50)
    for same, colour, name in ((True, _BLUE, "same class"), (False, _ORANGE, "another")):
        chosen = judged.distances[judged.same == same]
        axes.hist(chosen, bins=list(bins), color=colour, alpha=0.6, label=f"{name} ({len(chosen)})")
    axes.set(xlabel="cosine distance", ylabel="hits")
    axes.legend(frameon=False)


def _reliability(axes: Axes, outcome: Outcome) -> None:
    rows = Judged.of(outcome.vectors, outcome.labels).reliability(outcome.calibration)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", label="perfect")
    said, true, counts = zip(*rows, strict=True)
    axes.plot(said, true, color=_BLUE)
    axes.scatter(
        said,
        true,
        [20 + 300 * count / max(counts) for count in counts],
        color=_BLUE,
        label="size: how many hits",
        clip_on=False,
    )
    axes.set(
        xlabel="probability said",
        ylabel="share that were of the same class",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(frameon=False, loc="upper left")
