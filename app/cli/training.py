"""Fine-tuning and evaluating a model from the command line: progress, what came of it, exit codes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from app.cli.client import Client, ServiceError
from app.cli.transfer import Exporter, progress_bar
from models.calibration import LabelledHits
from models.contact_sheets import write_contact_sheets
from models.embedder import load_embedder
from models.engines import EngineMissing
from models.evaluate import (
    RankingMetrics,
    embed_images,
    measure_robustness,
    measure_throughput,
    rank_gallery,
)
from models.export import Format, export_network, quantize_network
from models.labelled_images import LabelledImages, UnusableData, check_disjoint, find_image_files
from models.progress import ProgressCallback
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid
from storage.cores import available_cores

_errors = Console(stderr=True, highlight=False, markup=False)
_out = Console(highlight=False, markup=False, soft_wrap=True)
_SAID_EVERY = 30  # seconds
_NAMES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "map_at_r": "mAP@R"}


class _Stages:
    """A progress bar for each stage of long work, with its rate and the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, tuple[TaskID, float, int]] = {}
        self._said = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._progress.console.is_terminal:
            self._say(stage, done, total)
            return
        if stage not in self._tasks:
            task = self._progress.add_task(stage.capitalize(), total=total, rate="")
            self._tasks[stage] = (task, time.monotonic(), done - 1)
        task, start, first = self._tasks[stage]
        rate = (done - first) / max(1e-3, time.monotonic() - start)
        self._progress.update(task, completed=done, total=total, rate=f"{rate:.1f}/s")

    def _say(self, stage: str, done: int, total: int) -> None:
        """Where nobody can see a bar: a line at a stage's end, and each half minute."""
        if done == total or time.monotonic() - self._said > _SAID_EVERY:
            self._said = time.monotonic()
            _errors.print(f"{stage}: {done} of {total}")


@contextmanager
def watched() -> Iterator[_Stages]:
    with progress_bar() as progress:
        yield _Stages(progress)


def _guarded(run: Callable[[], int], *, goes_on: bool = False) -> int:
    """What went wrong in words: 2; interrupted: 130."""
    try:
        return run()
    except (UnusableData, WeightsInvalid, EngineMissing, ServiceError, OSError) as error:
        _errors.print(str(error), style="red")
        return 2
    except KeyboardInterrupt:
        _errors.print(
            f"Interrupted. The same command {'goes on from where it was' if goes_on else 'starts over'}."
        )
        return 130


@dataclass(frozen=True)
class Source:
    """A collection, and the attribute of its masters that names their class."""

    client: Client
    collection: str
    by: str


def finetune(
    data: Path | None,
    out: Path,
    base: Path | None,
    given: dict[str, Any],
    source: Source,
    *,
    test: Path | None,
    device: str,
) -> int:
    """``given``: what of the recipe is not as its default."""
    return _guarded(
        lambda: _finetune(data, out, base, given, source, test=test, device=device), goes_on=True
    )


def _finetune(
    data: Path | None,
    out: Path,
    base: Path | None,
    given: dict[str, Any],
    source: Source,
    *,
    test: Path | None,
    device: str,
) -> int:
    try:
        from models.training.card import EvaluationScores, write_card
        from models.training.finetune import Finetuning
        from models.training.recipe import Recipe
    except ImportError as error:
        raise EngineMissing(
            f"fine-tuning needs more libraries ({error}): pip install -e '.[train]'"
        ) from error
    recipe = replace(Recipe(), **given)
    base = base or DEFAULT_WEIGHTS
    weights = WeightsFile.load_base(base)
    out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = out / "originals"
        with source.client as client:
            Exporter(client, source.collection, 4).run(data)
    tested = None
    with watched() as advance:
        images = (
            LabelledImages.read_export(data, source.by, advance)
            if source.by
            else LabelledImages.read(data, advance)
        )
        others = LabelledImages.read(test, advance) if test else None
        if others:
            check_disjoint(images, others)
        outcome = Finetuning(images, weights, out, recipe, device=device).run(advance)
        if test and others:
            before, _ = _tested(weights, others, advance, "testing the base")
            tested = EvaluationScores(
                test.name,
                len(others),
                before,
                *_tested(WeightsFile.load(outcome.weights), others, advance, "testing"),
            )
    card = write_card(out, outcome, images, recipe, base.name, tested)
    for path, why in images.broken:
        _errors.print(f"skipped {path}: {why}", style="yellow")
    _show_scores(
        f"{len(set(outcome.labels))} classes held out, leave one out", outcome.before, outcome.after
    )
    if tested:
        _show_scores(
            f"{tested.images} images of {tested.name}, leave one out", tested.before, tested.after
        )
    _out.print(f"Weights: {outcome.weights}   model version {outcome.version}   card: {card}")
    size = sum(path.stat().st_size for path in (out / "work").iterdir())
    _out.print(f"{out / 'work'} ({size / 1e9:.1f} GB) can be removed.")
    _out.print(f"Next: lookalike reembed start {outcome.weights}")
    return 0


def _tested(
    weights: WeightsFile, images: LabelledImages, advance: ProgressCallback, stage: str
) -> tuple[dict[str, float], float]:
    """Scores leave one out, and the expected calibration error."""
    vectors = embed_images(
        load_embedder(weights, slots=available_cores()),
        images.paths,
        slots=available_cores(),
        progress=advance,
        stage=stage,
    )
    scores = rank_gallery(vectors, images.labels, vectors, images.labels, leave_out=True).means()
    error = (
        LabelledHits.collect(vectors, images.labels).expected_error(weights.calibration)
        if weights.calibration
        else 0.0
    )
    return scores, error


def _show_scores(title: str, before: dict[str, float], after: dict[str, float]) -> None:
    table = Table(box=None, header_style="bold", title=title, title_justify="left")
    for column in ("", "base", "fine-tuned"):
        table.add_column(column, justify="right" if column else "left")
    for key, name in _NAMES.items():
        table.add_row(name, f"{before[key]:.4f}", f"{after[key]:.4f}")
    _out.print(table)


def export(model: str, out: Path, kind: Format) -> int:
    """The network for other programs."""

    def run() -> int:
        for path in export_network(_served(model), out, kind):
            _out.print(f"Written: {path}")
        return 0

    return _guarded(run)


def quantise(model: str, images: Path, out: Path) -> int:
    """An int8 model version."""

    def run() -> int:
        with watched() as advance:
            version = quantize_network(_served(model), find_image_files(images), out, advance)
        _out.print(f"Written: {out}   model version {version}")
        _out.print(
            f"Compare it: lookalike evaluate {out} DATA. Then: lookalike reembed start {out}"
        )
        return 0

    return _guarded(run)


def _weights(model: str) -> WeightsFile:
    if model != "default" and not Path(model).is_file():
        raise WeightsInvalid(
            f"there is no file {model}: MODEL is a weights file, or `default` for the shipped one"
        )
    return WeightsFile.load_base(DEFAULT_WEIGHTS if model == "default" else Path(model))


def _served(model: str) -> WeightsFile:
    weights = _weights(model)
    if not weights.has_projection:
        raise WeightsInvalid(
            f"{model} is a backbone without our projection: give it one by lookalike finetune --base"
        )
    return weights


def evaluate(
    model: str,
    data: Path,
    gallery: Path | None,
    sheets: Path | None,
    *,
    as_json: bool,
    by: str,
    engine: Any,
    quick: bool,
) -> int:
    """Retrieval, robustness, calibration and speed of a model on labelled photographs."""
    return _guarded(
        lambda: _evaluate(
            model, data, gallery, sheets, as_json=as_json, by=by, engine=engine, quick=quick
        )
    )


def _evaluate(
    model: str,
    data: Path,
    gallery: Path | None,
    sheets: Path | None,
    *,
    as_json: bool,
    by: str,
    engine: Any,
    quick: bool,
) -> int:
    weights = _weights(model)
    slots = available_cores()
    embedder = load_embedder(weights, engine=engine, slots=slots)
    copies: dict[str, float] = {}
    with watched() as advance:
        images = (
            LabelledImages.read_export(data, by, advance)
            if by
            else LabelledImages.read(data, advance)
        )
        vectors = embed_images(embedder, images.paths, slots=slots, progress=advance)
        if gallery is None:
            theirs, found_in = vectors, images
        else:
            found_in = (
                LabelledImages.read_export(gallery, by, advance, gallery=True)
                if by
                else LabelledImages.read(gallery, advance, gallery=True)
            )
            theirs = embed_images(
                embedder,
                found_in.paths,
                slots=slots,
                progress=advance,
                stage="embedding the gallery",
            )
        ranked = rank_gallery(
            vectors, images.labels, theirs, found_in.labels, leave_out=gallery is None
        )
        if not len(ranked.queries):
            raise UnusableData(
                "no query has an image of its class to find: give classes that have two images or more"
            )
        if not quick:
            copies = measure_robustness(embedder, images, vectors, slots=slots, progress=advance)
    speed = measure_throughput(embedder, images, slots=slots)
    error = None
    if weights.calibration and gallery is None:
        error = LabelledHits.collect(vectors, images.labels).expected_error(weights.calibration)
    written = (
        write_contact_sheets(sheets, ranked, images, found_in, vectors, theirs) if sheets else []
    )
    result: dict[str, Any] = {
        "model": embedder.model_version,
        "dimensions": vectors.shape[1],
        "images": len(images),
    }
    result |= {
        "classes": len(set(images.labels)),
        "broken": len(images.broken),
        "queries": len(ranked.queries),
    }
    result |= {name: round(value, 4) for name, value in ranked.means().items()}
    result["intervals"] = {
        name: [round(low, 4), round(high, 4)] for name, (low, high) in ranked.intervals().items()
    }
    result["robustness"] = {name: round(value, 4) for name, value in copies.items()}
    result["calibration_error"] = None if error is None else round(error, 4)
    result["images_per_second"] = round(speed, 1)
    for path, why in images.broken:
        _errors.print(f"skipped {path}: {why}", style="yellow")
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        _show_evaluation(result, ranked)
        for path in written:
            _out.print(f"Written: {path}")
    return 0


def _show_evaluation(result: dict[str, Any], ranked: RankingMetrics) -> None:
    title = f"{result['model']}: {result['queries']} queries, {result['images']} images, {result['classes']} classes"
    table = Table(box=None, header_style="bold", title=title, title_justify="left")
    for column in ("", "", "95 % interval"):
        table.add_column(column, justify="right" if column else "left")
    intervals = ranked.intervals()
    for key, value in ranked.means().items():
        table.add_row(_NAMES[key], f"{value:.4f}", "{:.4f} to {:.4f}".format(*intervals[key]))
    _out.print(table)
    if result["robustness"]:
        copies = Table(
            box=None,
            header_style="bold",
            title="An altered copy finds its original first (R@1)",
            title_justify="left",
        )
        copies.add_column()
        copies.add_column(justify="right")
        for name, value in result["robustness"].items():
            copies.add_row(name, f"{value:.4f}")
        copies.add_row(
            "mean",
            f"{sum(result['robustness'].values()) / len(result['robustness']):.4f}",
            style="bold",
        )
        _out.print(copies)
    if result["calibration_error"] is not None:
        _out.print(
            f"Expected calibration error of the probabilities: {result['calibration_error']:.3f}"
        )
    _out.print(f"{result['images_per_second']:.0f} embeddings/s")
