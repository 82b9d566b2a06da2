"""Sorts rows in memory by their values at a path."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.filters import Scalar
from storage.sorting import MAX_TEXT, NO_RANK, rank_of

_LAST = 9  # above all ranks, in both directions


class SortValues:
    """What each row is sorted by: the rank of a type, and a number within it."""

    def __init__(self, size: int) -> None:
        self._ranks = np.full(size, NO_RANK, dtype=np.int8)
        self._places = np.zeros(size)
        self._starts: list[str] = []

    def set_numbers(self, rows: NDArray[np.int32], numbers: NDArray[np.float64]) -> None:
        """Set the values of rows that have numbers."""
        self._ranks[rows] = rank_of(0)
        self._places[rows] = numbers

    def set_others(
        self, rows: NDArray[np.int32], codes: NDArray[np.int32], values: Sequence[str | bool | None]
    ) -> None:
        """Set the values of rows that have other values, ``values[codes[i]]`` in ``rows[i]``."""
        starts = [value[:MAX_TEXT] if isinstance(value, str) else value for value in values]
        self._starts = sorted({start for start in starts if isinstance(start, str)})
        place_of = {start: place for place, start in enumerate(self._starts)}
        places = [place_of[start] if isinstance(start, str) else start is True for start in starts]
        self._ranks[rows] = np.array([rank_of(start) for start in starts], dtype=np.int8)[codes]
        self._places[rows] = np.array(places, dtype=np.float64)[codes]

    def sort(
        self,
        rows: NDArray[np.int64],
        ids: Sequence[bytes],
        last: tuple[Scalar | None, bytes] | None,
        *,
        descending: bool,
    ) -> list[int]:
        """Return the places of rows among ``rows``, in order, that are behind a value and an id.

        ``ids`` are those of the rows, in descending order.
        """
        sign = -1 if descending else 1
        ranks, places = sign * self._ranks[rows].astype(np.int64), sign * self._places[rows]
        ranks[self._ranks[rows] == NO_RANK] = _LAST
        by_id = -sign * np.arange(len(rows), dtype=np.float64)
        order = np.lexsort((by_id, places, ranks))
        if last is not None:
            value, last_id = last
            rank = _LAST if value is None else sign * rank_of(value)
            place, id_place = sign * self._find(value), -sign * _find_id(ids, last_id)
            behind_id = (places == place) & (by_id > id_place)
            behind = (ranks > rank) | (ranks == rank) & ((places > place) | behind_id)
            order = order[behind[order]]
        found: list[int] = order.tolist()
        return found

    def _find(self, value: Scalar | None) -> float:
        """Return the place of a value, which is between those of others if no row has it."""
        if not isinstance(value, str):
            return float(value or 0)
        place = bisect_left(self._starts, value)
        return place if self._starts[place : place + 1] == [value] else place - 0.5


def _find_id(ids: Sequence[bytes], wanted: bytes) -> float:
    """Return the place of an id in a descending list, or one between two places."""
    place = len(ids) - bisect_right(ids[::-1], wanted)
    return place if place < len(ids) and ids[place] == wanted else place - 0.5
