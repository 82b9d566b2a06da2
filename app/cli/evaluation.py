"""Measures a model on labelled images for the command line and shows the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.console import make_table, on_interrupt, out, print_json, print_skipped, show_stages
from app.cli.model_files import load_encoder
from models.calibration import LabelledHits
from models.contact_sheets import write_contact_sheets
from models.embedder import Encoder, load_embedder
from models.evaluate import (
    RankingMetrics,
    embed_images,
    measure_robustness,
    measure_throughput,
    rank_gallery,
)
from models.labelled_images import LabelledImages, UnusableData
from models.progress import ProgressCallback
from storage.cores import available_cores

SCORES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "map": "mAP", "map_at_r": "mAP@R"}


@dataclass(frozen=True)
class _Evaluation:
    """What was measured. ``queries`` and ``gallery`` are the embeddings, float32."""

    version: str
    images: LabelledImages
    queries: Any
    gallery_images: LabelledImages
    gallery: Any
    ranked: RankingMetrics
    robustness: dict[str, float]
    calibration_error: float | None
    images_per_second: float


def read_images(
    directory: Path, by: str, advance: ProgressCallback, *, gallery: bool = False
) -> LabelledImages:
    """Read an exported collection labelled by the attribute ``by``, or one folder per class.

    Raises UnusableData, OSError.
    """
    if by:
        return LabelledImages.read_export(directory, by, advance, gallery=gallery)
    return LabelledImages.read(directory, advance, gallery=gallery)


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
) -> None:
    """Measure retrieval, robustness, calibration and speed, and print them.

    Raises EncoderInvalid, EngineMissing, UnusableData, OSError.
    """
    encoder = load_encoder(model)
    with on_interrupt("The same command starts over."):
        done = _measure(encoder, data, gallery, by=by, engine=engine, quick=quick)
        written = _write_sheets(sheets, done) if sheets else []
    print_skipped(done.images.broken)
    if as_json:
        print_json(_to_json(done), indent=None)
        return
    _show(done)
    for path in written:
        out.print(f"Written: {path}")


def _measure(
    encoder: Encoder, data: Path, gallery: Path | None, *, by: str, engine: Any, quick: bool
) -> _Evaluation:
    slots = available_cores()
    embedder = load_embedder(encoder, engine=engine, slots=slots)
    copies: dict[str, float] = {}
    with show_stages() as advance:
        images = read_images(data, by, advance)
        vectors = embed_images(embedder, images.paths, slots=slots, progress=advance)
        found_in, theirs = images, vectors
        if gallery is not None:
            found_in = read_images(gallery, by, advance, gallery=True)
            stage = "embedding the gallery"
            theirs = embed_images(
                embedder, found_in.paths, slots=slots, progress=advance, stage=stage
            )
        ranked = rank_gallery(
            vectors, images.labels, theirs, found_in.labels, leave_out=gallery is None
        )
        if not len(ranked.queries):
            raise UnusableData(
                "no image has another one of its class to find:"
                " provide classes with two images or more"
            )
        if not quick:
            copies = measure_robustness(embedder, images, vectors, slots=slots, progress=advance)
    error = None
    if embedder.calibration and gallery is None:
        error = LabelledHits.collect(vectors, images.labels).expected_error(embedder.calibration)
    return _Evaluation(
        version=embedder.model_version,
        images=images,
        queries=vectors,
        gallery_images=found_in,
        gallery=theirs,
        ranked=ranked,
        robustness=copies,
        calibration_error=error,
        images_per_second=measure_throughput(embedder, images, slots=slots),
    )


def _write_sheets(directory: Path, done: _Evaluation) -> list[Path]:
    return write_contact_sheets(
        directory, done.ranked, done.images, done.gallery_images, done.queries, done.gallery
    )


def _to_json(done: _Evaluation) -> dict[str, Any]:
    error = done.calibration_error
    means = {name: round(value, 4) for name, value in done.ranked.means().items()}
    intervals = {
        name: [round(low, 4), round(high, 4)]
        for name, (low, high) in done.ranked.intervals().items()
    }
    return {
        "model": done.version,
        "dimensions": done.queries.shape[1],
        "images": len(done.images),
        "classes": len(set(done.images.labels)),
        "broken": len(done.images.broken),
        "queries": len(done.ranked.queries),
        **means,
        "intervals": intervals,
        "robustness": {name: round(value, 4) for name, value in done.robustness.items()},
        "calibration_error": None if error is None else round(error, 4),
        "images_per_second": round(done.images_per_second, 1),
    }


def _show(done: _Evaluation) -> None:
    classes = len(set(done.images.labels))
    title = (
        f"{done.version}: {len(done.ranked.queries)} queries, {len(done.images)} images,"
        f" {classes} classes"
    )
    right = ("value", "95 % interval")
    table = make_table("score", *right, right=right, title=title)
    intervals = done.ranked.intervals()
    for key, value in done.ranked.means().items():
        table.add_row(SCORES[key], f"{value:.4f}", "{:.4f} to {:.4f}".format(*intervals[key]))
    out.print(table)
    if done.robustness:
        _show_robustness(done.robustness)
    if done.calibration_error is not None:
        out.print(f"Expected calibration error of the probabilities: {done.calibration_error:.3f}")
    out.print(f"{done.images_per_second:.0f} embeddings/s")


def _show_robustness(copies: dict[str, float]) -> None:
    title = "Altered copies that find their original first (R@1)"
    table = make_table("copy", "R@1", right=("R@1",), title=title)
    for name, value in copies.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("mean", f"{sum(copies.values()) / len(copies):.4f}", style="bold")
    out.print(table)
