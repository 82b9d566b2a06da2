"""Folds hits that are nearly the same picture into the nearest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.services.queries import MAX_REACH
from app.services.ranking import Hit
from storage.records import VectorRecord

_BATCH = 500  # hits whose vectors are read at once
_PLACES = 6  # of a distance
_LEAST_READ = 20

FindFirst = Callable[[int], list[Hit]]  # returns so many of the first hits
Duplicates = dict[UUID, list[UUID]]  # of each hit that is kept, by its id


class FetchVectors(Protocol):
    def __call__(self, ids: Sequence[UUID], /) -> dict[UUID, VectorRecord]:
        """Return the records of these masters; those without a vector are left out."""


def collapse_duplicates(
    find_first: FindFirst, fetch: FetchVectors, wanted: int, distance: float
) -> tuple[list[Hit], Duplicates]:
    """Return the first ``wanted`` hits that are not folded, and the ids of those that are.

    A hit is folded into the first one that is within ``distance`` of it and was not folded itself.
    Further hits are read until enough are kept, but at most MAX_REACH; what is folded is counted
    among those that were read. A master without a vector stays as it is.
    """
    reach = max(2 * wanted, _LEAST_READ)
    while True:
        hits = find_first(min(reach, MAX_REACH))
        folding = _Folding(wanted, distance)
        for start in range(0, len(hits), _BATCH):
            some = hits[start : start + _BATCH]
            folding.add(some, fetch([hit.master.id for hit in some]))
        if len(folding.kept) >= wanted or len(hits) < reach or reach >= MAX_REACH:
            return folding.kept, folding.duplicates
        reach *= 2


class _Folding:
    """The hits that are kept so far, the vectors of those that have one, and what was folded."""

    def __init__(self, wanted: int, distance: float) -> None:
        self.kept: list[Hit] = []
        self.duplicates: Duplicates = {}
        self._wanted, self._distance = wanted, distance
        self._ids: list[UUID] = []  # of the rows
        self._rows: list[NDArray[np.float64]] = []

    def add(self, hits: Sequence[Hit], records: dict[UUID, VectorRecord]) -> None:
        found = [hit.master.id for hit in hits if hit.master.id in records]
        vectors = [records[id_].parts[0].vector.astype(np.float64) for id_ in found]
        near = self._is_near(vectors, self._rows)
        among = self._is_near(vectors, vectors)
        places = {id_: place for place, id_ in enumerate(found)}
        new: list[int] = []  # places of the hits of this batch that are kept
        for hit in hits:
            place = places.get(hit.master.id)
            if place is None:
                self._keep(hit)
                continue
            rows = np.concatenate([near[place], among[place, new]])
            if rows.any():
                self.duplicates[self._ids[int(rows.argmax())]].append(hit.master.id)
            elif self._keep(hit):
                self._ids.append(hit.master.id)
                self._rows.append(vectors[place])
                new.append(place)

    def _keep(self, hit: Hit) -> bool:
        if len(self.kept) == self._wanted:
            return False
        self.kept.append(hit)
        self.duplicates[hit.master.id] = []
        return True

    def _is_near(
        self, vectors: Sequence[NDArray[np.float64]], rows: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.bool_]:
        if not vectors or not rows:
            return np.zeros((len(vectors), len(rows)), dtype=bool)
        distances = np.round(1.0 - np.stack(vectors) @ np.stack(rows).T, _PLACES)
        near: NDArray[np.bool_] = distances <= self._distance
        return near
