"""Writes the network for other programs (OpenVINO IR, ONNX), and quantizes it to int8.

Quantized weights are a weights file with a model version of its own.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.engines import build_graph
from models.errors import EngineMissing
from models.imaging import ImageRejected
from models.labelled_images import UnusableData, load_image
from models.progress import ProgressCallback, ignore_progress
from models.transforms import INPUT_SIDE, Preprocessing
from models.weights_file import WeightsFile, WeightsInvalid, save_weights

Format = Literal["openvino", "onnx"]
_INSTALL_HINT = "In the source directory, run: pip install '.[train]'"


def export_network(weights: WeightsFile, out: Path, kind: Format) -> list[Path]:
    """Write the network into the directory ``out`` and return the paths of the written files.

    The exported network maps ``(n, 224, 224, 3)`` uint8 RGB to ``(n, 512)`` float32 with rows of
    length 1. Raises WeightsInvalid for quantized weights as ONNX, and EngineMissing if the
    libraries for ONNX are not installed.
    """
    if kind == "onnx":
        return [_export_onnx(weights, out)]
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{weights.version}.xml"
    ov.save_model(build_graph(weights), path, compress_to_fp16=True)
    return [path, path.with_suffix(".bin")]


def _export_onnx(weights: WeightsFile, out: Path) -> Path:
    if weights.is_quantized:
        raise WeightsInvalid(
            f"{weights.source} is quantized to int8, which cannot be exported as ONNX."
            " Export it as OpenVINO IR."
        )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{weights.version}.onnx"
    try:
        import torch

        from models.resnet import EmbeddingNetwork

        network = EmbeddingNetwork.from_weights(weights)
        network.fold_batch_norms()
        pixels = torch.zeros((2, INPUT_SIDE, INPUT_SIDE, 3), dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.onnx warns about its own internals
            torch.onnx.export(
                network,
                (pixels,),
                path,
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise EngineMissing(
            f"The export to ONNX needs a library that is not installed ({error}). {_INSTALL_HINT}"
        ) from error
    return path


def quantize_network(
    weights: WeightsFile,
    images: list[Path],
    out: Path,
    progress: ProgressCallback = ignore_progress,
    most: int = 300,
) -> str:
    """Write an int8 weights file to ``out`` and return its model version.

    The value ranges are fitted on up to ``most`` of the images, spread evenly; images that cannot
    be decoded are skipped. Raises WeightsInvalid if the weights are quantized already,
    UnusableData if no image can be decoded, and EngineMissing if NNCF is not installed.
    """
    if weights.is_quantized:
        raise WeightsInvalid(
            f"{weights.source} is quantized already. Name the weights that it was made from."
        )
    try:
        import nncf
    except ImportError as error:
        raise EngineMissing(
            f"Quantizing needs a library that is not installed ({error}). {_INSTALL_HINT}"
        ) from error
    inputs = _read_inputs(images, weights.find_preprocessing(), most, progress)
    graph = nncf.quantize(
        build_graph(weights),
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
    )
    metadata = {
        "preprocessing": weights.preprocessing,
        "precision": "int8",
        "base": weights.version,
        "pooling": weights.pooling,
    }
    if weights.calibration:
        metadata["calibration"] = weights.calibration.as_json()
    return save_weights(out, _serialize_graph(graph), metadata)


def _read_inputs(
    images: list[Path], rule: Preprocessing, most: int, progress: ProgressCallback
) -> list[NDArray[np.uint8]]:
    """Return the inputs ``(1, 224, 224, 3)`` of the images that can be decoded."""
    count = min(most, len(images))
    indices = np.unique(np.linspace(0, max(0, len(images) - 1), count).astype(np.intp))
    inputs = []
    for done, index in enumerate(indices, start=1):
        with suppress(ImageRejected, OSError):
            inputs.append(rule.prepare(load_image(images[index], rule))[None])
        progress("reading", done, len(indices))
    if not inputs:
        raise UnusableData(
            "There is no image that can be read. Name a folder of images like those that will be"
            " searched."
        )
    return inputs


def _serialize_graph(graph: ov.Model) -> dict[str, NDArray[np.uint8]]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "network.xml"
        ov.save_model(graph, path, compress_to_fp16=True)
        return {
            f"openvino.{kind}": np.frombuffer(path.with_suffix(f".{kind}").read_bytes(), np.uint8)
            for kind in ("xml", "bin")
        }
