"""How far quantizing moves vectors is measured by their neighbours."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from app.settings import Settings
from models.errors import EngineMissing
from models.quantizing import check_installed, check_not_quantized, compare_vectors
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile, WeightsInvalid


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths: NDArray[np.floating] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths).astype(np.float32)


def draw(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).standard_normal((count, 32)))


def test_equal_vectors_agree_completely() -> None:
    agreement = compare_vectors(draw(50), draw(50))
    assert (agreement.images, agreement.nearest, agreement.recall) == (50, 10, 1.0)
    assert agreement.distance == pytest.approx(0, abs=1e-6)


def test_the_recall_is_the_share_of_neighbours_that_stay() -> None:
    angles = np.radians([0, 1, 90, 92])  # two pairs; then the third comes to the first
    moved = np.radians([0, 45, 1, 47])
    before, after = (
        np.stack([np.cos(a), np.sin(a)], 1).astype(np.float32) for a in (angles, moved)
    )
    nearest_only = compare_vectors(before[:4], after[:4])
    assert nearest_only.nearest == 3  # all others
    assert nearest_only.recall == 1.0
    noisy = compare_vectors(draw(200), unit(draw(200) + 0.1 * draw(200, seed=1)))
    unrelated = compare_vectors(draw(200), draw(200, seed=2))
    assert 0.6 < noisy.recall < 0.99
    assert unrelated.recall < 0.2
    assert noisy.distance == pytest.approx(0.005, abs=0.002)


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(EngineMissing, match=r"pip install '\.\[train\]'"):
        check_installed()


def test_the_precision_int8_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ValidationError, match="run `lookalike models quantize`"):
        Settings(precision="int8", _env_file=None)  # type: ignore[arg-type]


def test_int8_weights_are_not_quantized_again() -> None:
    weights = WeightsFile.load(DEFAULT_WEIGHTS)
    int8 = replace(weights, tensors={"openvino.xml": np.zeros(1, np.uint8)})
    with pytest.raises(WeightsInvalid, match="quantized already"):
        check_not_quantized(int8)
