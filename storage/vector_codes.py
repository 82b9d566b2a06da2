"""Quantises vectors to 8 bits a number, with a bound of the error that is never exceeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 127
_AT_ONCE = 256  # rows whose copies in float64 fit in a processor's cache
_TINY = np.finfo(np.float32).tiny  # the least number with all its digits
# Added to a length that was computed in float64 and is then rounded to float32, in parts of it.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Codes:
    """Vectors as ``codes * scale``, each with a bound of what that leaves out."""

    codes: NDArray[np.int8]  # (n, d), from -127 to 127
    scales: NDArray[np.float32]  # (n,)
    errors: NDArray[np.float32]  # (n,), at least the length of vector - codes * scale
    lengths: NDArray[np.float32]  # (n,), at least the length of codes * scale

    def __getitem__(self, rows: slice) -> Codes:
        return Codes(self.codes[rows], self.scales[rows], self.errors[rows], self.lengths[rows])


def quantise(vectors: NDArray[np.float32]) -> Codes:
    """Quantise each row of ``(n, d) float32`` by its largest number."""
    found = Codes(
        np.empty(vectors.shape, dtype=np.int8),
        *(np.empty(len(vectors), dtype=np.float32) for _ in range(3)),
    )
    for start in range(0, len(vectors), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        _quantise_into(found[rows], vectors[rows])
    return found


def _quantise_into(found: Codes, vectors: NDArray[np.float32]) -> None:
    scales = np.abs(vectors).max(axis=1) / np.float32(LARGEST_CODE)
    # A quotient by a subnormal scale could overflow: a vector that short becomes all error.
    scales[scales < _TINY] = 0
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    rounded = np.rint(vectors / divisors[:, np.newaxis])
    np.clip(rounded, -LARGEST_CODE, LARGEST_CODE, out=rounded)
    found.codes[:] = rounded
    found.scales[:] = scales
    coded = rounded.astype(np.float64)
    coded *= scales[:, np.newaxis]
    found.lengths[:] = _lengths(coded)
    np.subtract(vectors, coded, out=coded)
    found.errors[:] = _lengths(coded)


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the length of each row, rounded up; infinity if float32 has no larger number."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths = lengths * (1 + _ROUNDING) + np.where(lengths > 0, _TINY, 0)
    with np.errstate(over="ignore"):
        rounded: NDArray[np.float32] = lengths.astype(np.float32)
    return rounded
