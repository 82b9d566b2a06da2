"""Quantizes the network to int8, and measures how far that moves its vectors.

Quantized weights are a weights file with a model version of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.embedder import Embedder, load_embedder
from models.engines import build_graph
from models.errors import EngineMissing
from models.imaging import ImageRejected
from models.labelled_images import UnusableData, load_image
from models.progress import ProgressCallback, ignore_progress
from models.transforms import Preprocessing
from models.weights_file import WeightsFile, WeightsInvalid, save_weights
from storage.cores import available_cores

MOST_IMAGES = 600  # that are read; every second one calibrates, and all are compared
_NEAREST = 10

Inputs = NDArray[np.uint8]  # (n, height, width, 3)
Vectors = NDArray[np.float32]  # (n, dimension)


@dataclass(frozen=True)
class Agreement:
    """How near the vectors of quantized weights are to those of the original.

    ``recall`` is the share of the ``nearest`` neighbours of an image among all the others that
    stay among them, as a mean over the images. ``distance`` is the median cosine distance between
    both vectors of an image.
    """

    images: int
    nearest: int
    recall: float
    distance: float


@dataclass(frozen=True)
class Quantized:
    """The model version of quantized weights. ``agreement`` is None for a single image."""

    version: str
    agreement: Agreement | None


def quantize_network(
    weights: WeightsFile,
    images: list[Path],
    out: Path,
    progress: ProgressCallback = ignore_progress,
) -> Quantized:
    """Write an int8 weights file to ``out``, and compare its vectors with the original's.

    The value ranges are fitted on every second of up to ``MOST_IMAGES`` of the images, spread
    evenly; images that cannot be decoded are skipped. Raises WeightsInvalid if the weights are
    quantized already, UnusableData if no image can be decoded, and EngineMissing if NNCF is not
    installed.
    """
    check_installed()
    check_not_quantized(weights)
    import nncf

    inputs = _read_inputs(images, weights.find_preprocessing(), progress)
    calibrating = inputs[::2]
    graph = nncf.quantize(
        build_graph(weights),
        nncf.Dataset([each[None] for each in calibrating]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(calibrating),
    )
    metadata = {
        "preprocessing": weights.preprocessing,
        "precision": "int8",
        "base": weights.version,
        "pooling": weights.pooling,
    }
    if weights.calibration:
        metadata["calibration"] = weights.calibration.as_json()
    version = save_weights(out, _serialize_graph(graph), metadata)
    if len(inputs) == 1:
        return Quantized(version, None)
    before, after = (
        _embed(load_embedder(each, slots=available_cores()), inputs, progress)
        for each in (weights, WeightsFile.load(out))
    )
    return Quantized(version, compare_vectors(before, after))


def check_not_quantized(weights: WeightsFile) -> None:
    """Raise WeightsInvalid if weights are quantized already."""
    if weights.is_quantized:
        raise WeightsInvalid(
            f"{weights.source} is quantized already. Name the weights that it was made from."
        )


def check_installed() -> None:
    """Raise EngineMissing if NNCF, which quantizes, is not installed."""
    try:
        import nncf  # noqa: F401 - it is imported where it is used
    except ImportError as error:
        raise EngineMissing(
            f"Quantizing needs a library that is not installed ({error})."
            " In the source directory, run: pip install '.[train]'"
        ) from error


def compare_vectors(before: Vectors, after: Vectors) -> Agreement:
    """Compare the vectors of at least two images under two networks; rows have length 1."""
    nearest = min(_NEAREST, len(before) - 1)
    kept = [
        len(set(old) & set(new)) / nearest
        for old, new in zip(
            _find_nearest(before, nearest).tolist(),
            _find_nearest(after, nearest).tolist(),
            strict=True,
        )
    ]
    distances = 1 - (before.astype(np.float64) * after).sum(axis=1)
    return Agreement(
        len(before), nearest, float(np.mean(kept)), max(0.0, float(np.median(distances)))
    )


def _find_nearest(vectors: Vectors, count: int) -> NDArray[np.intp]:
    """Return the indices of the nearest other rows of each row, ``(n, count)``."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def _embed(embedder: Embedder, inputs: Inputs, progress: ProgressCallback) -> Vectors:
    stage = f"embedding with {embedder.model_version}"
    rows = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for done, row in enumerate(pool.map(embedder.embed, inputs[:, None]), start=1):
            rows.append(row)
            progress(stage, done, len(inputs))
    return np.concatenate(rows)


def _read_inputs(images: list[Path], rule: Preprocessing, progress: ProgressCallback) -> Inputs:
    """Return the inputs ``(n, 224, 224, 3)`` of the images that can be decoded."""
    count = min(MOST_IMAGES, len(images))
    indices = np.unique(np.linspace(0, max(0, len(images) - 1), count).astype(np.intp))
    inputs = []
    for done, index in enumerate(indices, start=1):
        with suppress(ImageRejected, OSError):
            inputs.append(rule.prepare(load_image(images[index], rule)))
        progress("reading", done, len(indices))
    if not inputs:
        raise UnusableData(
            "There is no image that can be read. Name a folder of images like those that will be"
            " searched."
        )
    return np.stack(inputs)


def _serialize_graph(graph: ov.Model) -> dict[str, NDArray[np.uint8]]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "network.xml"
        ov.save_model(graph, path, compress_to_fp16=True)
        return {
            f"openvino.{kind}": np.frombuffer(path.with_suffix(f".{kind}").read_bytes(), np.uint8)
            for kind in ("xml", "bin")
        }
