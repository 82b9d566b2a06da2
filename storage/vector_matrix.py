"""Keeps the vectors of one model version in memory, and searches them exactly."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import AttributeColumns, Mask
from storage.cores import available_cores
from storage.filters import Filter
from storage.records import Box4, VectorHit, VectorRecord, check_dimension, check_length

# Bound of the error of a float32 product of two unit vectors, per number of a vector: three times
# the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
_FLOAT32_ERROR = 2e-7
_LEAST_CAPACITY = 1024  # rows
_LEAST_PARALLEL = 2000  # rows from which slices on several cores are faster than one


class VectorMatrix:
    """A thread-safe matrix with a row per part. The first vector sets its dimension.

    Rows are only appended or marked dead, so that searches continue during writes. The parts of a
    master lie in consecutive rows, in order.
    """

    def __init__(self, capacity: int = 0) -> None:
        capacity = max(_LEAST_CAPACITY, capacity)
        self._lock = threading.Lock()
        self._size = 0
        self._vectors = np.empty((capacity, 0), dtype=np.float32)
        self._ids = np.empty((capacity, 2), dtype=np.uint64)  # a UUID's high and low half
        self._parts = np.empty(capacity, dtype=np.int32)  # the number of the part in its master
        self._several = False  # whether any master has had more than one part
        # The box of the part in each row, with the width 0 for the whole image; without rows until
        # the first box.
        self._boxes = np.empty((0, 4), dtype=np.int32)
        self._collections = np.empty(capacity, dtype=np.int32)
        self._alive = np.zeros(capacity, dtype=np.bool_)
        self._row_of: dict[UUID, int] = {}  # that of part 0
        self._attributes = AttributeColumns()
        self._collection_codes: dict[UUID, int] = {}

    def put_rows(self, records: Sequence[VectorRecord]) -> None:
        """Insert the records; each replaces all parts of the master. Raises ValueError."""
        with self._lock:
            dimension = check_dimension(records, self._dimension)
            if self._dimension is None and dimension is not None:
                self._vectors = np.empty((len(self._vectors), dimension), dtype=np.float32)
            self._make_room(sum(len(record.parts) for record in records))
            for record in records:
                self._drop(record.master_id)
                self._row_of[record.master_id] = self._size
                self._append(record)

    def _append(self, record: VectorRecord) -> None:
        self._several = self._several or len(record.parts) > 1
        id_ = divmod(record.master_id.int, 1 << 64)
        code = self._collection_codes.setdefault(record.collection_id, len(self._collection_codes))
        for number, part in enumerate(record.parts):
            row = self._size
            self._vectors[row] = part.vector
            self._ids[row] = id_
            self._parts[row] = number
            self._collections[row] = code
            self._attributes.add(row, record.attributes)
            self._set_box(row, part.box)
            self._alive[row] = True
            self._size += 1

    def _set_box(self, row: int, box: Box4 | None) -> None:
        if box is not None and not len(self._boxes):
            self._boxes = np.zeros((len(self._vectors), 4), dtype=np.int32)
        if len(self._boxes):
            self._boxes[row] = box or (0, 0, 0, 0)

    @property
    def _dimension(self) -> int | None:
        """The length of the vectors; None before the first one."""
        return self._vectors.shape[1] or None

    def drop_rows(self, ids: Sequence[UUID]) -> None:
        """Remove all parts of these masters; ids without a vector are ignored."""
        with self._lock:
            for master_id in ids:
                self._drop(master_id)

    def _drop(self, master_id: UUID) -> None:
        row = self._row_of.pop(master_id, None)
        if row is None:
            return
        self._alive[row] = False
        while row + 1 < self._size and self._parts[row + 1]:
            row += 1
            self._alive[row] = False

    def _make_room(self, more: int) -> None:
        """Make room for ``more`` rows: if the arrays are full, copy the live rows into larger ones.

        The new arrays have half as much room again. Searches in progress keep the old arrays, which
        stay as they are.
        """
        if self._size + more <= len(self._vectors):
            return
        keep = np.flatnonzero(self._alive[: self._size])
        capacity = max(_LEAST_CAPACITY, (len(keep) + more) * 3 // 2)
        renumbered = np.full(self._size, -1, dtype=np.int64)
        renumbered[keep] = np.arange(len(keep))
        for name in ("_vectors", "_ids", "_parts", "_boxes", "_collections", "_alive"):
            old = getattr(self, name)
            if not len(old):
                continue  # there are no boxes
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            np.take(old, keep, axis=0, out=new[: len(keep)])
            setattr(self, name, new)
        self._attributes.renumber(renumbered)
        self._row_of = {master_id: int(renumbered[row]) for master_id, row in self._row_of.items()}
        self._size = len(keep)

    def search(
        self,
        pool: ThreadPoolExecutor,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None,
        max_distance: float | None,
    ) -> list[VectorHit]:
        """Search as ``VectorStore.search`` does; slices of large searches run on ``pool``."""
        with self._lock:
            check_length(vector, self._dimension)
            code = self._collection_codes.get(collection_id)
            if code is None:
                return []
            chosen = self._alive[: self._size] & (self._collections[: self._size] == code)
            if filter is not None:
                chosen &= self._attributes.select(filter, self._size)
            vectors, ids = self._vectors[: self._size], self._ids[: self._size]
            parts, boxes, several = self._parts[: self._size], self._boxes, self._several
        error = _FLOAT32_ERROR * vectors.shape[1]
        rows = np.flatnonzero(chosen)
        near = 1.0 - _products(pool, vectors, rows, vector)
        # One distance per master: a master's parts are chosen together, and begin with part 0.
        nearest = near if not several else _least_per_group(near, parts[rows] == 0)
        if max_distance is not None:
            rows, near = _where(near <= max_distance + error, rows, near)
            nearest = nearest[nearest <= max_distance + error]
        if len(nearest) > limit:
            farthest = np.partition(nearest, limit - 1)[limit - 1]
            rows, near = _where(near <= farthest + 2 * error, rows, near)
        # The candidates are computed again in float64, row by row: equal vectors tie in any row.
        products = (vectors[rows].astype(np.float64) * vector).sum(axis=1)
        distances = np.clip(np.round(1.0 - products, 6), 0.0, 2.0)
        if max_distance is not None:
            rows, distances = _where(distances <= max_distance, rows, distances)
        order = np.lexsort((parts[rows], ids[rows, 1], ids[rows, 0], distances))
        hits = (
            VectorHit(_master_id(ids[row]), float(distance), int(parts[row]), _box(boxes, row))
            for row, distance in zip(rows[order], distances[order], strict=True)
        )
        return _take_masters(hits, limit)


def _take_masters(hits: Iterable[VectorHit], limit: int) -> list[VectorHit]:
    """Return the first hit of each master, for up to ``limit`` masters."""
    found: dict[UUID, VectorHit] = {}
    for hit in hits:
        if len(found) == limit:
            break
        found.setdefault(hit.master_id, hit)
    return list(found.values())


def _master_id(halves: NDArray[np.uint64]) -> UUID:
    return UUID(int=int(halves[0]) << 64 | int(halves[1]))


def _least_per_group(values: NDArray[np.float32], starts: Mask) -> NDArray[np.float32]:
    """Return the least value of each group; a group begins where ``starts`` is true."""
    if not len(values):
        return values
    least: NDArray[np.float32] = np.minimum.reduceat(values, np.flatnonzero(starts))
    return least


def _box(boxes: NDArray[np.int32], row: int) -> Box4 | None:
    if row >= len(boxes) or not boxes[row, 2]:
        return None
    x, y, width, height = boxes[row].tolist()
    return x, y, width, height


def _where(chosen: Mask, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return tuple(array[chosen] for array in arrays)


def _products(
    pool: ThreadPoolExecutor,
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    vector: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the dot products of the chosen rows with ``vector``, ``(len(rows),) float32``.

    The work is split over the cores, because memory bandwidth is the bound: a row of 512
    numbers has 2 kB.
    """
    total, chosen = len(vectors), len(rows)
    slices = available_cores()
    if chosen * 3 < total:  # gathering few rows moves less memory than reading all

        def gathered(index: int) -> NDArray[np.float32]:
            some = rows[chosen * index // slices : chosen * (index + 1) // slices]
            return vectors[some] @ vector

        return _concatenated(pool, gathered, slices, chosen)

    def whole(index: int) -> NDArray[np.float32]:
        return vectors[total * index // slices : total * (index + 1) // slices] @ vector

    return _concatenated(pool, whole, slices, total)[rows]


def _concatenated(
    pool: ThreadPoolExecutor, part: Any, slices: int, size: int
) -> NDArray[np.float32]:
    run = map if size < _LEAST_PARALLEL else pool.map
    return np.concatenate(list(run(part, range(slices))))
