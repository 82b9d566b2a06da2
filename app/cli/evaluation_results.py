"""Shows what an evaluation measured, as tables or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.cli.console import make_table, out
from models.evaluate import RankingMetrics
from models.labelled_images import LabelledImages

SCORES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "map_at_r": "mAP@R"}
NAME_SCORES = {"p10": "class names, P@10", "map": "class names, mAP"}


@dataclass(frozen=True)
class EvaluatedImages:
    """The images to search with and those to search in, which may be the same."""

    images: LabelledImages
    gallery: LabelledImages

    @property
    def shared(self) -> bool:
        """Whether the images are searched in themselves, without a gallery of their own."""
        return self.gallery is self.images


@dataclass(frozen=True)
class Evaluation:
    """What was measured. ``queries`` and ``gallery`` are the embeddings, float32."""

    version: str
    queries: Any
    gallery: Any
    ranked: RankingMetrics
    names: RankingMetrics | None  # of class names as queries; None if the model takes no text
    robustness: dict[str, float]
    calibration_error: float | None
    images_per_second: float


def to_json(data: EvaluatedImages, measured: list[Evaluation]) -> dict[str, Any]:
    """Return the object of one model, or those of both and the difference of their scores."""
    results = [_describe(data, done) for done in measured]
    if len(results) == 1:
        return results[0]
    first, second = measured
    names = None
    if first.names is not None and second.names is not None:
        names = _describe_scores(first.names.minus(second.names))
    difference = _describe_scores(first.ranked.minus(second.ranked)) | {"class_names": names}
    return {"models": results, "difference": difference}


def _describe(data: EvaluatedImages, done: Evaluation) -> dict[str, Any]:
    error, names = done.calibration_error, done.names
    return {
        "model": done.version,
        "dimensions": done.queries.shape[1],
        "images": len(data.images),
        "classes": len(set(data.images.labels)),
        "broken": len(data.images.broken),
        "queries": len(done.ranked.queries),
        **_describe_scores(done.ranked),
        "class_names": None if names is None else _describe_scores(names),
        "robustness": {name: round(value, 4) for name, value in done.robustness.items()},
        "calibration_error": None if error is None else round(error, 4),
        "images_per_second": round(done.images_per_second, 1),
    }


def _describe_scores(ranked: RankingMetrics) -> dict[str, Any]:
    means = {name: round(value, 4) for name, value in ranked.means().items()}
    intervals = {
        name: [round(low, 4), round(high, 4)] for name, (low, high) in ranked.intervals().items()
    }
    return {**means, "intervals": intervals}


def show_evaluations(data: EvaluatedImages, measured: list[Evaluation]) -> None:
    """Print the scores of one model, or those of two side by side with their difference."""
    images, queries = data.images, len(measured[0].ranked.queries)
    size = f"{queries} queries, {len(images)} images, {len(set(images.labels))} classes"
    if len(measured) == 1:
        _show_one(measured[0], f"{measured[0].version}: {size}")
    else:
        first, second = measured
        _show_two(first, second, f"{size}; 95 % intervals in brackets")


def _show_one(done: Evaluation, title: str) -> None:
    right = ("value", "95 % interval")
    table = make_table("score", *right, right=right, title=title)
    for ranked, labels in _list_scores(done):
        means, intervals = ranked.means(), ranked.intervals()
        for key, label in labels.items():
            table.add_row(label, f"{means[key]:.4f}", "{:.4f} to {:.4f}".format(*intervals[key]))
    out.print(table)
    if done.robustness:
        _show_robustness(done.robustness)
    if done.calibration_error is not None:
        out.print(f"Expected calibration error of the probabilities: {done.calibration_error:.3f}")
    out.print(f"{done.images_per_second:.0f} embeddings/s")


def _list_scores(done: Evaluation) -> list[tuple[RankingMetrics, dict[str, str]]]:
    scores = [(done.ranked, SCORES)]
    return scores if done.names is None else [*scores, (done.names, NAME_SCORES)]


def _show_robustness(copies: dict[str, float]) -> None:
    title = "Altered copies that find their original first (R@1)"
    table = make_table("copy", "R@1", right=("R@1",), title=title)
    for name, value in copies.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("mean", f"{_mean(copies):.4f}", style="bold")
    out.print(table)


def _mean(copies: dict[str, float]) -> float:
    return sum(copies.values()) / len(copies)


def _show_two(first: Evaluation, second: Evaluation, title: str) -> None:
    columns = (first.version, second.version, "difference")
    table = make_table("score", *columns, right=columns, title=title)
    for column in table.columns[:3]:
        column.no_wrap = True  # a narrow terminal breaks the last column, and cuts nothing
    for key, label in SCORES.items():
        table.add_row(label, *_compare_scores(key, first.ranked, second.ranked))
    if first.names is not None or second.names is not None:
        for key, label in NAME_SCORES.items():
            table.add_row(label, *_compare_scores(key, first.names, second.names))
    for label, value, style in _NUMBERS:
        numbers = [value(done) for done in (first, second)]
        if any(number is not None for number in numbers):
            table.add_row(label, *_compare_numbers(numbers, style))
    out.print(table)


_NUMBERS: tuple[tuple[str, Callable[[Evaluation], float | None], str], ...] = (
    (
        "altered copies, R@1",
        lambda done: _mean(done.robustness) if done.robustness else None,
        ".3f",
    ),
    ("calibration error", lambda done: done.calibration_error, ".3f"),
    ("embeddings/s", lambda done: done.images_per_second, ".0f"),
)


def _compare_scores(
    key: str, first: RankingMetrics | None, second: RankingMetrics | None
) -> Iterator[str]:
    """Yield the cells of a row: both means and their difference, with intervals."""
    both = first.minus(second) if first is not None and second is not None else None
    for ranked, sign in ((first, ""), (second, ""), (both, "+")):
        if ranked is None:
            yield "–"
        else:
            low, high = ranked.intervals()[key]
            yield f"{ranked.means()[key]:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _compare_numbers(numbers: list[float | None], style: str) -> Iterator[str]:
    for number in numbers:
        yield "–" if number is None else f"{number:{style}}"
    first, second = numbers
    yield "–" if first is None or second is None else f"{first - second:+{style}}"
