"""One search of the matrix in memory: what it is compared with, and which rows may be its hits.

Similarities are products of vectors; a distance is 1 less the similarity. For a query f with the
codes g and a row with the codes c, whose scales are t and s,

    <row, f> = st <c, g> + s <c, f - tg> + <row - sc, f>

The first term is what the codes give; the others are at most |sc| |f - tg| + |row - sc| |f|, by
the inequality of Cauchy and Schwarz. So each row has a least and a greatest similarity. A row whose
greatest one is below the least one of ``limit`` masters is not among the hits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import Mask
from storage.vector_blocks import VectorBlock
from storage.vector_codes import quantise

# Distances are rounded to 6 places: rows this much farther than another one cannot tie with it.
_TIE = 2e-6
# Of the arithmetic in float32 and float64, in parts of the lengths: 4 roundings of 2 ** -24 each.
_ROUNDING = 5e-7
_LEAST = 1e-300
_ABOVE = 1 + 1e-6  # makes a computed bound larger than the true one


@dataclass
class View:
    """What a search sees of a block: the rows that there were when it began."""

    block: VectorBlock
    size: int
    chosen: Mask | None  # (size,); None: all rows


@dataclass(frozen=True)
class Candidates:
    """Rows that may be hits: ``numbers[i]`` is the view, and ``rows[i]`` the row in its block."""

    numbers: NDArray[np.int64]
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]  # a number for each master
    greatest: NDArray[np.float64]  # similarities

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        return self.numbers, self.rows, self.firsts, self.greatest

    def __getitem__(self, places: Any) -> Candidates:
        return Candidates(*(column[places] for column in self.columns))

    def __len__(self) -> int:
        return len(self.rows)


class Query:
    """A search in progress. Several threads may compare different rows with it."""

    def __init__(
        self,
        vector: NDArray[np.float32],
        views: Sequence[View],
        limit: int,
        max_distance: float | None,
        several: bool,
    ) -> None:
        """``several`` says that masters may have more than one part."""
        self.vector, self.views, self.limit = vector, views, limit
        self.max_distance, self._several = max_distance, several
        found = quantise(vector[np.newaxis])
        self.codes = found.codes[0]
        self.scale = float(found.scales[0]) or 1.0  # without a scale, all codes are 0
        length = math.sqrt(float((vector.astype(np.float64) ** 2).sum()))
        rest = float(found.errors[0]) + _ROUNDING * float(found.lengths[0])
        # Not 0, because the length of a row may be infinite in float32.
        self._per_length, self._per_error = rest * _ABOVE + _LEAST, length * _ABOVE + _LEAST
        self._lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Forget all rows."""
        self._found: list[Candidates] = []
        self.floor = -math.inf if self.max_distance is None else _floor(1.0 - self.max_distance)
        self.forget_masters()

    def forget_masters(self) -> None:
        """Forget which masters are known to be similar, but not how similar a hit must be."""
        self._best: tuple[NDArray[np.int64], NDArray[np.float64]]
        self._best = np.empty(0, dtype=np.int64), np.empty(0)

    def least_product(self, block: VectorBlock) -> float:
        """Return a bound: rows of the block with a smaller ``scale * <codes, g>`` are no hits."""
        widest = self._per_length * block.greatest_length + self._per_error * block.greatest_error
        least = (self.floor - widest) / self.scale
        return least - abs(least) * _ROUNDING

    def add(self, number: int, rows: NDArray[np.int64], products: NDArray[np.int32]) -> None:
        """Note the rows of view ``number`` that may be hits, given their products of codes."""
        view = self.views[number]
        if view.chosen is not None:
            chosen = view.chosen[rows]
            rows, products = rows[chosen], products[chosen]
        if not len(rows):
            return
        block = view.block
        similar = products * (block.scales[rows] * np.float64(self.scale))
        widths = self._per_length * block.lengths[rows].astype(np.float64)
        widths += self._per_error * block.errors[rows].astype(np.float64)
        kept = similar + widths >= self.floor
        rows, similar, widths = rows[kept], similar[kept], widths[kept]
        firsts = (number << 32) + rows - block.parts[rows]
        found = Candidates(np.full(len(rows), number), rows, firsts, similar + widths)
        with self._lock:
            self._found.append(found)
            self.raise_floor(firsts, similar - widths)

    def raise_floor(self, firsts: NDArray[np.int64], least: NDArray[np.float64]) -> None:
        """Note that masters are at least as similar as given; each row is given once."""
        firsts = np.concatenate([self._best[0], firsts])
        least = np.concatenate([self._best[1], least])
        if self._several:
            order = np.argsort(-least, kind="stable")
            _, places = np.unique(firsts[order], return_index=True)
            firsts, least = firsts[order[places]], least[order[places]]
        if len(least) >= self.limit:
            places = np.argpartition(least, -self.limit)[-self.limit :]
            firsts, least = firsts[places], least[places]
            self.floor = max(self.floor, _floor(float(least.min())))
        self._best = firsts, least

    def candidates(self) -> Candidates:
        """Return the rows that may be hits, the most similar one first."""
        if not self._found:
            nothing = np.empty(0, dtype=np.int64)
            return Candidates(nothing, nothing, nothing, np.empty(0))
        columns = zip(*(each.columns for each in self._found), strict=True)
        found = Candidates(*(np.concatenate(column) for column in columns))
        found = found[found.greatest >= self.floor]
        return found[np.argsort(-found.greatest, kind="stable")]


def _floor(similarity: float) -> float:
    """Return the similarity below which a row is neither as near as that one nor ties with it.

    Distances are clipped to 0..2, so all rows beyond these ends tie there.
    """
    floor = min(similarity, 1.0) - _TIE
    return floor if floor > -1.0 else -math.inf
