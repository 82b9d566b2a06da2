"""Quantizes an encoder's network to int8, and measures how far that moves its vectors.

The result is a weights file or a bundle with a model version of its own.
"""

from __future__ import annotations

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.bundles.archive import Bundle, read_bundle, write_bundle
from models.bundles.framing import Framing
from models.bundles.graphs import build_image_graph
from models.bundles.manifest import MANIFEST, weights_of
from models.embedder import Embedder, Encoder, load_embedder, read_encoder
from models.engines import build_graph
from models.errors import EncoderInvalid, EngineMissing
from models.imaging import ImageRejected
from models.labelled_images import UnusableData, load_image
from models.progress import ProgressCallback, ignore_progress
from models.transforms import Preprocessing
from models.weights_file import WeightsFile, save_weights
from storage.cores import available_cores

MOST_IMAGES = 600  # that are read; every second one calibrates, and all are compared
_NEAREST = 10
_INT8 = "image-int8"  # name of the network's files in a bundle

Inputs = NDArray[np.uint8]  # (n, height, width, 3)
Vectors = NDArray[np.float32]  # (n, dimension)


@dataclass(frozen=True)
class Agreement:
    """How near the vectors of a quantized encoder are to those of the original.

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
    """The version of a quantized encoder. ``agreement`` is None if there was a single image."""

    version: str
    agreement: Agreement | None


def quantize_network(
    encoder: Encoder,
    images: list[Path],
    out: Path,
    progress: ProgressCallback = ignore_progress,
) -> Quantized:
    """Write the encoder with an int8 network to ``out``, and compare its vectors with before.

    Of a bundle, the network for images is quantized; that for texts stays as it is. The value
    ranges are fitted on every second of up to ``MOST_IMAGES`` of the images, spread evenly; images
    that cannot be decoded are skipped. Raises EncoderInvalid if the encoder is quantized already,
    UnusableData if no image can be decoded, and EngineMissing if NNCF is not installed.
    """
    check_installed()
    check_not_quantized(encoder)
    inputs = _read_inputs(images, _find_preprocessing(encoder), progress)
    quantized = _quantize_graph(_build_graph(encoder), inputs[::2])
    if isinstance(encoder, Bundle):
        version = _write_bundle(encoder, quantized, out)
    else:
        version = _write_weights(encoder, quantized, out)
    if len(inputs) == 1:
        return Quantized(version, None)
    before, after = (
        _embed(load_embedder(each, slots=available_cores()), inputs, progress)
        for each in (encoder, read_encoder(out))
    )
    return Quantized(version, compare_vectors(before, after))


def check_not_quantized(encoder: Encoder) -> None:
    """Raise EncoderInvalid if an encoder is quantized already."""
    if isinstance(encoder, Bundle):
        nodes = build_image_graph(encoder).get_ops()
        is_quantized = any(node.get_type_name() == "FakeQuantize" for node in nodes)
    else:
        is_quantized = encoder.is_quantized
    if is_quantized:
        raise EncoderInvalid(
            f"{encoder.version} is quantized already. Name the encoder that it was made from."
        )


def _build_graph(encoder: Encoder) -> ov.Model:
    """Return the graph from ``(n, height, width, 3)`` uint8 to vectors. Raises EncoderInvalid."""
    if isinstance(encoder, Bundle):
        return build_image_graph(encoder)
    encoder.validate()
    return build_graph(encoder)


def _find_preprocessing(encoder: Encoder) -> Preprocessing:
    if isinstance(encoder, Bundle):
        return Framing(encoder.manifest.image)
    return encoder.find_preprocessing()


def _quantize_graph(graph: ov.Model, inputs: Inputs) -> ov.Model:
    import nncf

    has_attention = any(node.get_type_name() == "Softmax" for node in graph.get_ops())
    return nncf.quantize(
        graph,
        nncf.Dataset([each[None] for each in inputs]),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
        subset_size=len(inputs),
    )


def _write_weights(weights: WeightsFile, graph: ov.Model, out: Path) -> str:
    metadata = {
        "preprocessing": weights.preprocessing,
        "precision": "int8",
        "base": weights.version,
        "pooling": weights.pooling,
    }
    if weights.calibration:
        metadata["calibration"] = weights.calibration.as_json()
    with TemporaryDirectory() as directory:
        files = _save_graph(graph, Path(directory))
        tensors = {
            f"openvino{file.suffix}": np.frombuffer(file.read_bytes(), np.uint8) for file in files
        }
        return save_weights(out, tensors, metadata)


def _write_bundle(bundle: Bundle, graph: ov.Model, out: Path) -> str:
    """Write the bundle with another network for images, which takes pixels as they are."""
    with zipfile.ZipFile(bundle.path) as archive:
        manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
    replaced = {bundle.manifest.image.file, weights_of(bundle.manifest.image.file)}
    pixels = {"mean": [0.0] * 3, "std": [1 / 255] * 3, "layout": "NHWC"}
    with TemporaryDirectory() as directory:
        named = {file.name: file for file in _save_graph(graph, Path(directory))}
        ports = {"file": f"{_INT8}.xml", "input": 0, "output": 0, "pool": "none"}
        manifest["image"] = manifest["image"] | pixels | ports
        for name in bundle.manifest.files.keys() - replaced:
            named[name] = Path(directory) / name
            named[name].write_bytes(bundle.read_file(name).tobytes())
        write_bundle(out, manifest, named)
    return read_bundle(out).version


def _save_graph(graph: ov.Model, directory: Path) -> list[Path]:
    """Write OpenVINO IR in half precision, and return its two files."""
    path = directory / f"{_INT8}.xml"
    ov.save_model(graph, path, compress_to_fp16=True)
    return [path, path.with_suffix(".bin")]


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
