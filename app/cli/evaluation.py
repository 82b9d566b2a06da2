"""Measures one model, or two for comparison, on labelled images for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.cli.console import (
    CommandError,
    on_interrupt,
    out,
    print_json,
    print_skipped,
    show_stages,
)
from app.cli.evaluation_results import (
    EvaluatedImages,
    Evaluation,
    show_evaluations,
    to_json,
)
from app.cli.model_files import load_encoder
from models.calibration import LabelledHits
from models.class_names import find_text_embedder, score_names
from models.contact_sheets import write_contact_sheets
from models.embedder import Encoder, load_embedder
from models.evaluate import (
    embed_images,
    measure_robustness,
    measure_throughput,
    rank_gallery,
)
from models.labelled_images import LabelledImages, UnusableData
from models.progress import ProgressCallback
from storage.cores import available_cores


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
    models: list[str],
    data: Path,
    gallery: Path | None,
    sheets: Path | None,
    *,
    as_json: bool,
    by: str,
    engine: Any,
    quick: bool,
) -> None:
    """Measure retrieval, robustness, calibration and speed of one or two models, and print them.

    Raises EncoderInvalid, EngineMissing, UnusableData, OSError.
    """
    encoders = [load_encoder(model) for model in models]
    if len({encoder.version for encoder in encoders}) < len(encoders):
        raise CommandError(
            f"{models[0]} and {models[1]} are the same model: name two different ones"
        )
    with on_interrupt("The same command starts over."):
        with show_stages() as advance:
            images = read_images(data, by, advance)
            searched = (
                images if gallery is None else read_images(gallery, by, advance, gallery=True)
            )
            read = EvaluatedImages(images, searched)
            measured = [
                _measure(encoder, read, advance, engine=engine, quick=quick) for encoder in encoders
            ]
        written = [path for done in measured for path in _write_sheets(sheets, read, done, models)]
    print_skipped(images.broken)
    if as_json:
        print_json(to_json(read, measured), indent=None)
        return
    show_evaluations(read, measured)
    for path in written:
        out.print(f"Written: {path}")


def _measure(
    encoder: Encoder, data: EvaluatedImages, advance: ProgressCallback, *, engine: Any, quick: bool
) -> Evaluation:
    slots, images = available_cores(), data.images
    embedder = load_embedder(encoder, engine=engine, slots=slots)
    stage = f"embedding with {embedder.model_version}"
    queries = embed_images(embedder, images.paths, slots=slots, progress=advance, stage=stage)
    gallery = queries
    if not data.shared:
        stage = f"embedding the gallery with {embedder.model_version}"
        paths = data.gallery.paths
        gallery = embed_images(embedder, paths, slots=slots, progress=advance, stage=stage)
    ranked = rank_gallery(
        queries, images.labels, gallery, data.gallery.labels, leave_out=data.shared
    )
    if not len(ranked.queries):
        raise UnusableData(
            "no image has another one of its class to find: provide classes with two images or more"
        )
    embed_text = find_text_embedder(encoder, embedder)
    error, copies = None, {}
    if embedder.calibration and data.shared:
        error = LabelledHits.collect(queries, images.labels).expected_error(embedder.calibration)
    if not quick:
        copies = measure_robustness(embedder, images, queries, slots=slots, progress=advance)
    return Evaluation(
        version=embedder.model_version,
        queries=queries,
        gallery=gallery,
        ranked=ranked,
        names=embed_text and score_names(embed_text, gallery, data.gallery.labels),
        robustness=copies,
        calibration_error=error,
        images_per_second=measure_throughput(embedder, images, slots=slots),
    )


def _write_sheets(
    directory: Path | None, data: EvaluatedImages, done: Evaluation, models: list[str]
) -> list[Path]:
    """Write the contact sheets of a model, into a directory of its own if there are two."""
    if directory is None:
        return []
    return write_contact_sheets(
        directory / done.version if len(models) > 1 else directory,
        done.ranked,
        data.images,
        data.gallery,
        done.queries,
        done.gallery,
    )
