"""Finds the row of a master in the matrix; a million masters take 24 MB."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

_MOST_RECENT = 65_536  # positions outside the sorted arrays; each takes about 230 bytes
_GONE = -1


class MasterPositions:
    """A map from masters to positions: sorted arrays, and a dictionary of what is new.

    The caller holds a lock.
    """

    def __init__(self) -> None:
        self._recent: dict[UUID, int] = {}
        self._highs = np.empty(0, dtype=np.uint64)  # halves of the ids, sorted by the high one
        self._lows = np.empty(0, dtype=np.uint64)
        self._positions = np.empty(0, dtype=np.int64)

    def add_many(self, ids: NDArray[np.uint64], positions: NDArray[np.int64]) -> None:
        """Add masters that are not in the map; ``ids`` is ``(n, 2)``: high and low halves."""
        kept = self._positions != _GONE
        highs = np.concatenate([self._highs[kept], ids[:, 0]])
        lows = np.concatenate([self._lows[kept], ids[:, 1]])
        positions = np.concatenate([self._positions[kept], positions])
        # Ids are mostly in the order of time already, which makes a stable sort fast.
        order = np.argsort(highs, kind="stable")
        self._highs, self._lows, self._positions = highs[order], lows[order], positions[order]

    def add(self, master_id: UUID, position: int) -> None:
        """Add a master that is not in the map."""
        self._recent[master_id] = position
        if len(self._recent) > _MOST_RECENT:
            ids = [divmod(each.int, 1 << 64) for each in self._recent]
            positions = np.array(list(self._recent.values()), dtype=np.int64)
            self.add_many(np.array(ids, dtype=np.uint64), positions)
            self._recent = {}

    def pop(self, master_id: UUID) -> int | None:
        """Remove a master, and return its position; None if it is not in the map."""
        position = self._recent.pop(master_id, None)
        if position is not None:
            return position
        place = self._find(master_id)
        if place is None or self._positions[place] == _GONE:
            return None
        position = int(self._positions[place])
        self._positions[place] = _GONE
        return position

    def _find(self, master_id: UUID) -> int | None:
        """Return the place of a master in the arrays, even if it is gone."""
        if not len(self._highs):
            return None
        high, low = divmod(master_id.int, 1 << 64)
        place = int(np.searchsorted(self._highs, np.uint64(high)))
        while place < len(self._highs) and int(self._highs[place]) == high:
            if int(self._lows[place]) == low:
                return place
            place += 1
        return None
