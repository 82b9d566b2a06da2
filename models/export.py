"""Weights for other programs and other arithmetic: OpenVINO IR, ONNX, and an int8 model version of its own."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import openvino as ov

from models.engines import EngineMissing, build_graph
from models.imaging import ImageRejected
from models.labelled_images import Advance, UnusableData, load, silent
from models.transforms import INPUT_SIDE, to_input
from models.weights_file import WeightsFile, WeightsInvalid, save_weights

Format = Literal["openvino", "onnx"]


def export(weights: WeightsFile, out: Path, kind: Format) -> list[Path]:
    """Write the network, pixels ``(n, 224, 224, 3)`` uint8 RGB to ``(n, 512)`` float32 of length 1; what was written."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{weights.version}.{'xml' if kind == 'openvino' else 'onnx'}"
    if kind == "openvino":
        ov.save_model(build_graph(weights), path, compress_to_fp16=True)
        return [path, path.with_suffix(".bin")]
    if weights.quantised:
        raise WeightsInvalid(f"{weights.source} is int8: it is exported as OpenVINO IR")
    try:
        import torch

        from models.resnet import EmbeddingNetwork

        network = EmbeddingNetwork.from_weights(weights)
        pixels = torch.zeros((2, INPUT_SIDE, INPUT_SIDE, 3), dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of itself
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
            f"ONNX needs more libraries ({error}): pip install -e '.[train]'"
        ) from error
    return [path]


def quantise(
    weights: WeightsFile, images: list[Path], out: Path, advance: Advance = silent, most: int = 300
) -> str:
    """Write an int8 weights file, its ranges fitted on some of the images; its model version."""
    if weights.quantised:
        raise WeightsInvalid(f"{weights.source} is int8 already")
    try:
        import nncf
    except ImportError as error:
        raise EngineMissing(
            f"int8 needs more libraries ({error}): pip install -e '.[train]'"
        ) from error
    chosen = np.unique(
        np.linspace(0, max(0, len(images) - 1), min(most, len(images))).astype(np.intp)
    )
    pixels = []
    for number, place in enumerate(chosen, start=1):
        with suppress(ImageRejected, OSError):
            pixels.append(to_input(load(images[place]))[None])
        advance("reading", number, len(chosen))
    if not pixels:
        raise UnusableData(
            "there is no image that can be read: give a folder of photographs like those to be searched"
        )
    graph = nncf.quantize(
        build_graph(weights),
        nncf.Dataset(pixels),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pixels),
    )
    with TemporaryDirectory() as directory:
        path = Path(directory) / "network.xml"
        ov.save_model(graph, path, compress_to_fp16=True)
        parts = {
            f"openvino.{kind}": np.frombuffer(path.with_suffix(f".{kind}").read_bytes(), np.uint8)
            for kind in ("xml", "bin")
        }
    metadata = {"precision": "int8", "base": weights.version, "pooling": weights.pooling}
    if weights.calibration:
        metadata["calibration"] = weights.calibration.as_json()
    return save_weights(out, parts, metadata)
