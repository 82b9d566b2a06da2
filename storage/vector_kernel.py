"""Computes products of vectors that have 8 bits a number, exactly.

NumKong does it with the instructions that the processor has for this, at the speed of its memory.
NumPy has no product of such numbers that uses them, and is what remains on other platforms.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

numkong: Any
try:
    numkong = importlib.import_module("numkong")
except ImportError:  # no wheel for this platform
    numkong = None

_EXACT = 1024  # numbers: float32 counts to 2 ** 24 exactly, and 1024 * 127 * 127 is less
_IN_CACHE = 256  # rows whose float32 copies fit in a processor's cache


class Products(Protocol):
    """Compares vectors with several queries."""

    def __call__(self, codes: NDArray[np.int8], found: NDArray[np.int32]) -> None:
        """Compute the products of ``codes`` (n, d), from -127 to 127, into ``found`` (n, m)."""


def prepare_products(queries: NDArray[np.int8]) -> Products:
    """Return what computes the products with these queries, ``(m, d)``; threads may share it."""
    return _prepare_numpy(queries) if numkong is None else _prepare_numkong(queries)


def _prepare_numkong(queries: NDArray[np.int8]) -> Products:
    # A lone query is compared row by row, which reads memory faster than the product of matrices.
    packed = numkong.dots_pack(queries) if len(queries) > 1 else None

    def compute(codes: NDArray[np.int8], found: NDArray[np.int32]) -> None:
        if packed is None:
            numkong.dot(codes, queries[0], out=found[:, 0])
        else:
            numkong.dots_packed(codes, packed, out=numkong.from_dlpack(found))

    return compute


def _prepare_numpy(queries: NDArray[np.int8]) -> Products:
    transposed = np.ascontiguousarray(queries.T, dtype=np.float32)

    def compute(codes: NDArray[np.int8], found: NDArray[np.int32]) -> None:
        for row in range(0, len(codes), _IN_CACHE):
            some = codes[row : row + _IN_CACHE].astype(np.float32)
            into = found[row : row + _IN_CACHE]
            into[:] = some[:, :_EXACT] @ transposed[:_EXACT]
            for start in range(_EXACT, len(transposed), _EXACT):
                piece = slice(start, start + _EXACT)
                into += (some[:, piece] @ transposed[piece]).astype(np.int32)

    return compute
