"""Runs fine-tuning for the command line and shows what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.client import Client
from app.cli.console import make_table, on_interrupt, out, print_skipped, show_stages
from app.cli.evaluation import read_images
from app.cli.evaluation_results import SCORES
from app.cli.transfers import Exporter
from models.calibration import LabelledHits
from models.embedder import load_embedder
from models.errors import EngineMissing
from models.evaluate import embed_images, rank_gallery
from models.labelled_images import LabelledImages, check_disjoint
from models.progress import ProgressCallback
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.cores import available_cores

if TYPE_CHECKING:
    from models.training.card import EvaluationScores
    from models.training.finetune import FinetuningResult


@dataclass(frozen=True)
class CollectionSource:
    """A collection of a service, to be downloaded and trained on."""

    client: Client
    collection: str


def finetune(
    source: Path | CollectionSource,
    by: str,
    directory: Path,
    base: Path | None,
    given: dict[str, Any],
    *,
    test: Path | None,
    device: str,
) -> None:
    """Train on ``source`` and write weights and model card to ``directory``.

    ``given`` holds the values of the recipe that differ from its defaults. Raises EngineMissing,
    WeightsInvalid, UnusableData, ServiceError, OSError.
    """
    with on_interrupt("Run the same command again to resume."):
        _finetune(source, by, directory, base or DEFAULT_WEIGHTS, given, test=test, device=device)


def _finetune(
    source: Path | CollectionSource,
    by: str,
    directory: Path,
    base: Path,
    given: dict[str, Any],
    *,
    test: Path | None,
    device: str,
) -> None:
    try:
        from models.training.card import write_card
        from models.training.finetune import Finetuning
        from models.training.recipe import Recipe
    except ImportError as error:
        raise EngineMissing(
            f"fine-tuning needs more libraries ({error}): pip install 'lookalike[train]'"
        ) from error
    recipe = replace(Recipe(), **given)
    weights = WeightsFile.load_base(base)
    directory.mkdir(parents=True, exist_ok=True)
    data = source if isinstance(source, Path) else _download(source, directory / "originals")
    tested = None
    with show_stages() as advance:
        images = read_images(data, by, advance)
        others = LabelledImages.read(test, advance) if test else None
        if others:
            check_disjoint(images, others)
        outcome = Finetuning(images, weights, directory, recipe, device=device).run(advance)
        if test and others:
            tested = _compare(weights, outcome, test.name, others, advance)
    card = write_card(directory, outcome, images, recipe, base.name, tested)
    print_skipped(images.broken)
    _show_result(outcome, tested, card, directory / "work")


def _download(source: CollectionSource, directory: Path) -> Path:
    with source.client as client:
        Exporter(client, source.collection, 4).run(directory)
    return directory


def _compare(
    base: WeightsFile,
    outcome: FinetuningResult,
    name: str,
    others: LabelledImages,
    advance: ProgressCallback,
) -> EvaluationScores:
    """Measure the base and the trained model on other classes."""
    from models.training.card import EvaluationScores

    before, _ = _measure(base, others, advance, "testing the base")
    after, error = _measure(WeightsFile.load(outcome.weights), others, advance, "testing")
    return EvaluationScores(name, len(others), before, after, error)


def _measure(
    weights: WeightsFile, images: LabelledImages, advance: ProgressCallback, stage: str
) -> tuple[dict[str, float], float]:
    """Return leave-one-out scores and the expected calibration error (0 if not calibrated)."""
    embedder = load_embedder(weights, slots=available_cores())
    vectors = embed_images(
        embedder, images.paths, slots=available_cores(), progress=advance, stage=stage
    )
    scores = rank_gallery(vectors, images.labels, vectors, images.labels, leave_out=True).means()
    if not weights.calibration:
        return scores, 0.0
    return scores, LabelledHits.collect(vectors, images.labels).expected_error(weights.calibration)


def _show_result(
    outcome: FinetuningResult, tested: EvaluationScores | None, card: Path, work: Path
) -> None:
    held_out = f"{len(set(outcome.labels))} held-out classes, leave one out"
    _show_scores(held_out, outcome.before, outcome.after)
    if tested:
        title = f"{tested.images} images of {tested.name}, leave one out"
        _show_scores(title, tested.before, tested.after)
    out.print(f"Weights: {outcome.weights}   model version {outcome.version}   card: {card}")
    size = sum(path.stat().st_size for path in work.iterdir())
    out.print(f"You can delete {work} ({size / 1e9:.1f} GB).")
    out.print(f"Next: lookalike models start {outcome.weights}")


def _show_scores(title: str, before: dict[str, float], after: dict[str, float]) -> None:
    right = ("base", "fine-tuned")
    table = make_table("", *right, right=right, title=title)
    for key, name in SCORES.items():
        table.add_row(name, f"{before[key]:.4f}", f"{after[key]:.4f}")
    out.print(table)
