"""The directions of the base network's classes in the space of one version of the weights."""

from __future__ import annotations

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from models.engines import build_graph
from models.weights_file import (
    DEFAULT_WEIGHTS,
    EMBEDDING_DIM,
    FEATURE_DIM,
    WeightsFile,
    WeightsInvalid,
)


def compute_directions(
    rows: NDArray[np.float32], projection: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Map the rows of a classifier to directions of the projected space.

    ``rows`` is ``(classes, 2048)`` and ``projection`` ``(512, 2048)``. A row w is the direction of
    the features in which its class stands out. In the projected space that is
    (P P^T)^-1/2 P w: P alone would weigh some directions more than others. Returns
    ``(classes, 512)`` float32, rows of length 1.
    """
    wide = projection.astype(np.float64)
    spread, axes = np.linalg.eigh(wide @ wide.T)
    root = (axes * np.maximum(spread, spread[-1] * 1e-9) ** -0.5) @ axes.T
    found = rows.astype(np.float64) @ (root @ wide).T
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return np.array(found / np.maximum(lengths, 1e-12), dtype=np.float32)


def find_projection(weights: WeightsFile) -> NDArray[np.float32]:
    """Return the projection ``(512, 2048)`` float32 of a version.

    Quantized weights keep it, rounded, in the graph that OpenVINO runs. If it cannot be read
    there, the projection of the shipped weights takes its place.
    """
    found = _read_projection(weights)
    if found is None:
        found = _read_projection(WeightsFile.load(DEFAULT_WEIGHTS))
    if found is None:
        raise WeightsInvalid(f"{DEFAULT_WEIGHTS} has no projection. Reinstall Lookalike.")
    return found


def _read_projection(weights: WeightsFile) -> NDArray[np.float32] | None:
    if "projection.weight" in weights.tensors:
        return np.array(weights.tensors["projection.weight"], dtype=np.float32)
    return _read_quantized_projection(weights) if weights.is_quantized else None


def _read_quantized_projection(weights: WeightsFile) -> NDArray[np.float32] | None:
    """Evaluate the constant that the last matrix product of a quantized graph multiplies by."""
    products = [
        op for op in build_graph(weights).get_ordered_ops() if op.get_type_name() == "MatMul"
    ]
    if not products:
        return None
    constant = ov.Model([products[-1].input_value(1)], [], "projection")
    if constant.output(0).get_partial_shape().is_dynamic:
        return None
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    values = ov.Core().compile_model(constant, "CPU", config)()[0]
    shapes = {(EMBEDDING_DIM, FEATURE_DIM): values, (FEATURE_DIM, EMBEDDING_DIM): values.T}
    found = shapes.get(values.shape)
    return None if found is None else np.array(found, dtype=np.float32)
