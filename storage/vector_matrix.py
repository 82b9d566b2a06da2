"""Keeps the vectors of one model version in memory, and searches them exactly."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import Mask
from storage.cores import available_cores
from storage.filters import Filter
from storage.records import VectorHit, VectorRecord, check_dimension, check_length
from storage.vector_blocks import (
    ROWS,
    EncodedRows,
    VectorBlock,
    encode_rows,
    gather,
    merge_blocks,
)

# Bound of the error of a float32 product of two unit vectors, per number of a vector: three times
# the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
_FLOAT32_ERROR = 2e-7
_LEAST_PARALLEL = 2000  # rows from which slices on several cores are faster than one
_ROW_BITS = 32  # of a position, for the row; the others are the number of the block


@dataclass
class _View:
    """What a search sees of a block: the rows that there were when it began."""

    block: VectorBlock
    chosen: Mask  # (size,)


class VectorMatrix:
    """A thread-safe matrix with a row per part, in blocks. The first vector sets its dimension.

    The lock is held only to note which rows there are: filters and products run without it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dimension: int | None = None
        self._blocks: dict[int, VectorBlock] = {}  # by number; only the newest has room
        self._next_number = 0
        self._several = False  # whether any master has had more than one part
        self._position_of: dict[UUID, int] = {}  # of part 0: the block's number and the row
        self._collection_codes: dict[UUID, int] = {}

    @property
    def capacity(self) -> int:
        """The number of rows for which there is memory."""
        return sum(block.capacity for block in self._blocks.values())

    def put_rows(self, records: Sequence[VectorRecord]) -> None:
        """Insert the records; each replaces all parts of the master. Raises ValueError."""
        records = list({record.master_id: record for record in records}.values())
        check_dimension(records, self._dimension)
        rows = encode_rows(records) if records else None
        with self._lock:
            self._dimension = check_dimension(records, self._dimension)
            for record in records:
                self._drop(record.master_id)
            while records and rows is not None:
                records, rows = self._append_some(records, rows)

    def _append_some(
        self, records: list[VectorRecord], rows: EncodedRows
    ) -> tuple[list[VectorRecord], EncodedRows]:
        """Append the records that fit in one block, at least one; return the others."""
        number, block = self._find_room(len(records[0].parts))
        room = block.capacity - block.size
        ends = np.cumsum([len(record.parts) for record in records])
        count = int(np.searchsorted(ends, room, side="right"))
        some, end = records[:count], int(ends[count - 1])
        codes = self._collection_codes
        firsts = block.append(
            some, rows[:end], [codes.setdefault(each.collection_id, len(codes)) for each in some]
        )
        for record, row in zip(some, firsts.tolist(), strict=True):
            self._position_of[record.master_id] = number << _ROW_BITS | row
        self._several = self._several or end > count
        return records[count:], rows[end:]

    def drop_rows(self, ids: Sequence[UUID]) -> None:
        """Remove all parts of these masters; ids without a vector are ignored."""
        with self._lock:
            for master_id in ids:
                self._drop(master_id)

    def _drop(self, master_id: UUID) -> None:
        position = self._position_of.pop(master_id, None)
        if position is None:
            return
        number, row = position >> _ROW_BITS, position & (1 << _ROW_BITS) - 1
        block = self._blocks[number]
        block.drop(row)
        if number != self._next_number - 1 and block.is_mostly_dead:
            self._shrink(number)

    def _find_room(self, rows: int) -> tuple[int, VectorBlock]:
        """Return the newest block, or a new one if it lacks room for that many rows.

        A new block is also begun before masters that keep changing fill the memory with attributes
        that are out of date.
        """
        newest = self._next_number - 1
        block = self._blocks.get(newest)
        if block is not None:
            if block.size + rows <= block.capacity and not block.has_many_dead_values:
                return newest, block
            if block.is_mostly_dead:
                self._shrink(newest)
        number, self._next_number = self._next_number, self._next_number + 1
        self._blocks[number] = block = VectorBlock(self._dimension or 0, max(ROWS, rows))
        return number, block

    def _shrink(self, number: int) -> None:
        """Replace a block that is mostly dead, together with another one that fits beside it."""
        merged = {number: self._blocks[number]}
        live = merged[number].live
        for other, block in self._blocks.items():
            is_full = other not in (number, self._next_number - 1)
            if is_full and block.live + live <= ROWS:
                merged[other] = block
                break
        kept = merge_blocks(list(merged.values()))
        for old in merged:
            del self._blocks[old]
        if kept.size:
            # It keeps a number below the newest one, so that nothing is appended to it.
            self._blocks[number] = kept
            for master_id, row in kept.masters():
                self._position_of[master_id] = number << _ROW_BITS | row

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
            views = [_View(block, block.choose(code)) for block in self._blocks.values()]
            several = self._several
        if filter is not None:
            for view in views:
                view.chosen &= view.block.attributes.select(filter, len(view.chosen))
        views = [view for view in views if view.chosen.any()]
        if not views:
            return []
        error = _FLOAT32_ERROR * len(vector)
        rows_of = [np.flatnonzero(view.chosen) for view in views]
        near = _find_near(pool, views, rows_of, vector)
        parts = [view.block.parts for view in views]
        # One distance per master: a master's parts are chosen together, and begin with part 0.
        nearest = near
        if several:
            first = [part[rows] == 0 for part, rows in zip(parts, rows_of, strict=True)]
            nearest = _least_per_group(near, np.concatenate(first))
        bound = math.inf
        if max_distance is not None:
            bound = max_distance + error
            nearest = nearest[nearest <= bound]
        if len(nearest) > limit:
            bound = np.partition(nearest, limit - 1)[limit - 1] + 2 * error
        numbers, rows = _locate(rows_of, np.flatnonzero(near <= bound))
        # The candidates are computed again in float64, row by row: equal vectors tie in any row.
        candidates = gather([view.block.vectors for view in views], numbers, rows)
        products = (candidates.astype(np.float64) * vector).sum(axis=1)
        distances = np.clip(np.round(1.0 - products, 6), 0.0, 2.0)
        if max_distance is not None:
            numbers, rows, distances = _where(distances <= max_distance, numbers, rows, distances)
        ids = gather([view.block.ids for view in views], numbers, rows)
        order = np.lexsort((gather(parts, numbers, rows), ids[:, 1], ids[:, 0], distances))
        hits = (
            views[numbers[place]].block.hit(int(rows[place]), float(distances[place]))
            for place in order
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


def _least_per_group(values: NDArray[np.float32], starts: Mask) -> NDArray[np.float32]:
    """Return the least value of each group; a group begins where ``starts`` is true."""
    least: NDArray[np.float32] = np.minimum.reduceat(values, np.flatnonzero(starts))
    return least


def _where(chosen: Mask, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return tuple(array[chosen] for array in arrays)


def _locate(
    rows_of: list[NDArray[np.int64]], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of the arrays each place is in, counted over all of them, and its row there."""
    ends = np.cumsum([len(rows) for rows in rows_of])
    numbers = np.searchsorted(ends, places, side="right")
    starts = ends - [len(rows) for rows in rows_of]
    return numbers, gather(rows_of, numbers, places - starts[numbers])


def _find_near(
    pool: ThreadPoolExecutor,
    views: list[_View],
    rows_of: list[NDArray[np.int64]],
    vector: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the distances of the chosen rows of each view, in one array.

    The work is split over the cores, because memory bandwidth is the bound: a row of 512
    numbers has 2 kB.
    """
    total = sum(len(view.chosen) for view in views)
    slices = available_cores() if total >= _LEAST_PARALLEL else 1
    bounds = [total * index // slices for index in range(slices + 1)]

    def compare(index: int) -> list[NDArray[np.float32]]:
        start, end, found = bounds[index], bounds[index + 1], []
        for view, chosen in zip(views, rows_of, strict=True):
            size = len(view.chosen)
            if start < size and end > 0:
                found.append(_distances(view.block, chosen, max(start, 0), min(end, size), vector))
            start, end = start - size, end - size
        return found

    run = map if slices == 1 else pool.map
    return np.concatenate([each for found in run(compare, range(slices)) for each in found])


def _distances(
    block: VectorBlock,
    rows: NDArray[np.int64],
    start: int,
    end: int,
    vector: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the distances of those of the rows that are from ``start`` to ``end``."""
    first, last = np.searchsorted(rows, (start, end))
    some = rows[first:last]
    if len(some) * 3 < end - start:  # gathering few rows moves less memory than reading all
        return 1.0 - block.vectors[some] @ vector
    near: NDArray[np.float32] = 1.0 - block.vectors[start:end] @ vector
    return near if len(some) == len(near) else near[some - start]
