"""Writes the network for other programs: OpenVINO IR, ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import openvino as ov

from models.engines import build_graph
from models.errors import EngineMissing
from models.transforms import INPUT_SIDE
from models.weights_file import WeightsFile, WeightsInvalid

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
