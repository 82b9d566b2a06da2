"""Vectors of 8 bits a number: the bound of their error holds for any vector."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.vector_codes import quantise

FLOAT32 = np.finfo(np.float32)


def draw_vectors(dimension: int) -> NDArray[np.float32]:
    """Draw vectors of every kind: unit, sparse, tiny, huge, with one large number, zero."""
    rng = np.random.default_rng(dimension)
    vectors = rng.normal(size=(400, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[40:80] *= rng.random((40, dimension)) < 0.1
    vectors[80:120] *= np.float32(10.0) ** rng.integers(-44, 38, size=(40, 1)).astype(np.float32)
    vectors[120:160, 0] = 1000
    vectors[160] = 0
    vectors[161] = FLOAT32.smallest_subnormal
    vectors[162] = FLOAT32.tiny
    vectors[163] = FLOAT32.max
    vectors[164, 0] = FLOAT32.max
    return vectors


@pytest.mark.parametrize("dimension", [1, 3, 128, 512])
def test_the_error_and_the_length_are_never_longer_than_their_bounds(dimension: int) -> None:
    vectors = draw_vectors(dimension)
    found = quantise(vectors)
    assert np.abs(found.codes.astype(int)).max() <= 127
    for vector, codes, scale, error, length in zip(
        vectors, found.codes, found.scales, found.errors, found.lengths, strict=True
    ):
        coded = [Fraction(float(scale)) * int(code) for code in codes]
        rest = [Fraction(float(number)) - each for number, each in zip(vector, coded, strict=True)]
        assert sum(each**2 for each in rest) <= _square(error)
        assert sum(each**2 for each in coded) <= _square(length)


def _square(bound: np.float32) -> Fraction | float:
    return float("inf") if np.isinf(bound) else Fraction(float(bound)) ** 2


def test_the_error_of_a_unit_vector_is_small() -> None:
    """A bound that were never exceeded but large would make searches slow."""
    vectors = np.random.default_rng(1).normal(size=(1000, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert quantise(vectors).errors.max() < 0.012
    assert quantise(np.zeros((1, 512), dtype=np.float32)).errors.max() == 0


def test_a_vector_gets_the_same_codes_alone_and_among_others() -> None:
    vectors = draw_vectors(128)
    together = quantise(vectors)
    for row in range(len(vectors)):
        alone = quantise(vectors[row : row + 1])
        assert (alone.codes[0] == together.codes[row]).all()
        assert alone.scales[0] == together.scales[row]
