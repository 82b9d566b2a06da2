"""Weights files other than the shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from models.weights_file import DEFAULT_WEIGHTS, compute_model_version, restate_preprocessing

EARLIER_VERSION = "rn50-3ae97942e6bf195e"


def earlier_weights(path: Path) -> Path:
    """Write the weights that were shipped before colours were converted, byte by byte."""
    restated = restate_preprocessing(DEFAULT_WEIGHTS.read_bytes(), "centre-square-224-bicubic-1")
    assert compute_model_version(restated) == EARLIER_VERSION
    path.write_bytes(restated)
    return path


def turned_weights(path: Path, seed: int) -> Path:
    """Write the shipped weights with a rotated projection: another version with equal distances."""
    with safe_open(DEFAULT_WEIGHTS, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((512, 512)))
        for name in ("projection.weight", "projection.bias"):
            tensors[name] = (turn @ tensors[name].astype(np.float64)).astype(tensors[name].dtype)
        save_file(tensors, path, file.metadata())
    return path
