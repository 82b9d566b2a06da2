"""Cheap training for tests of the training procedure, not of what the network learns.

Inputs are smaller, and the projection is not fitted: that decomposes two matrices of 2048 x 2048,
which costs more than all the rest of a tiny run. Tests of the fit itself do not use this module.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from models.weights_file import EMBEDDING_DIM, FEATURE_DIM

_SIDE = 64  # pixels
_SHAPES = ("_SHAPES", "_TRUNK_SHAPES")  # of the activations that are kept between epochs
_Array = NDArray[np.float32]


def make_inputs_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every module of ``models`` take inputs of 64 x 64 pixels, a twelfth of the area."""
    _replace(monkeypatch, "INPUT_SIDE", _SIDE)
    for name in _SHAPES:
        _replace(monkeypatch, name, _shapes_of_small_inputs())


def make_fit_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the fit of the projection by a fixed matrix, centred on the features."""
    _replace(monkeypatch, "fit_projection", _project_at_random)


def _replace(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    import models.training.finetune  # noqa: F401

    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("models.") and hasattr(module, name):
            monkeypatch.setattr(module, name, value)


def _shapes_of_small_inputs() -> dict[str, tuple[int, ...]]:
    return {
        "projection": (FEATURE_DIM,),
        "layer4": (_SIDE // 16, _SIDE // 16, 1024),
        "layer3": (_SIDE // 8, _SIDE // 8, 512),
        "all": (_SIDE, _SIDE, 3),
    }


def _project_at_random(
    views: list[_Array], classes: NDArray[np.int64], head: _Array | None = None
) -> tuple[_Array, _Array]:
    """Return a weight ``(512, 2048)`` and a bias ``(512,)`` for features ``(n, 2048)``."""
    weight = np.random.default_rng(0).standard_normal((EMBEDDING_DIM, FEATURE_DIM))
    weight *= 10.0 / np.linalg.norm(weight, axis=0).sum()
    bias = -weight @ views[0].mean(axis=0)
    return weight.astype(np.float32), bias.astype(np.float32)
