"""The blocks of the matrix in memory: a bounded number of rows each, with their attributes.

A block never moves, so growth copies nothing, and a search reads its arrays without a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import AttributeColumns, Mask
from storage.records import Box4, VectorHit, VectorRecord
from storage.vector_codes import Codes, quantise

ROWS = 16_384  # in a block; memory for rows that are not used yet costs nothing
# The columns that a search reads, beside the vectors themselves.
CODED_COLUMNS = ("codes", "scales", "errors", "lengths", "ids", "parts", "collections", "values")
_MAX_DEAD_VALUES = 100_000  # attribute values of dead rows; each takes up to about 250 bytes


@dataclass(frozen=True)
class EncodedRows:
    """The vectors of records, one row per part, and their codes."""

    vectors: NDArray[np.float32]  # (n, d)
    codes: Codes

    def __getitem__(self, rows: slice) -> EncodedRows:
        return EncodedRows(self.vectors[rows], self.codes[rows])


def encode_rows(records: Sequence[VectorRecord]) -> EncodedRows:
    """Encode the vectors of all parts of records, of which there is at least one."""
    vectors = np.array([part.vector for each in records for part in each.parts], dtype=np.float32)
    return EncodedRows(vectors, quantise(vectors))


class VectorBlock:
    """Rows of vectors, one per part of a master, and what searches need to know about them.

    Rows are only appended or marked dead, under the lock of the matrix. The parts of a master lie
    in consecutive rows of one block, in order.
    """

    def __init__(
        self, dimension: int, capacity: int = ROWS, vectors: NDArray[np.float32] | None = None
    ) -> None:
        """``vectors`` are those of rows that are filled in by ``close``, if they are elsewhere."""
        self.capacity = capacity
        self.size = 0
        self.live = 0  # rows that are not dead
        if vectors is None:
            vectors = np.empty((capacity, dimension), dtype=np.float32)
        self.vectors = vectors
        # What a search reads first: each vector as codes * scale, and by how much that is wrong.
        self.codes = np.empty((capacity, dimension), dtype=np.int8)
        self.scales = np.empty(capacity, dtype=np.float32)
        self.errors = np.empty(capacity, dtype=np.float32)  # see Codes
        self.lengths = np.empty(capacity, dtype=np.float32)  # see Codes
        self.ids = np.empty((capacity, 2), dtype=np.uint64)  # a UUID's high and low half
        self.parts = np.empty(capacity, dtype=np.int32)  # the number of the part in its master
        self.collections = np.empty(capacity, dtype=np.int32)  # a code for each collection
        self.alive = np.zeros(capacity, dtype=np.bool_)
        self.seen: set[int] = set()  # collections
        self.greatest_error = self.greatest_length = 0.0
        self.values = np.zeros(capacity, dtype=np.int32)  # the number of attribute values
        self._live_values = self._dead_values = 0
        self.file = ""  # the file that has the first rows of this block, and how many
        self.file_rows = 0
        # The box of the part in each row, with the width 0 for the whole image.
        self.boxes: NDArray[np.int32] | None = None  # until the first box
        self.attributes = AttributeColumns()

    def append(
        self, records: Sequence[VectorRecord], rows: EncodedRows, collections: Sequence[int]
    ) -> NDArray[np.int64]:
        """Append the parts of records, for which there must be room.

        ``rows`` are theirs; ``collections`` has a code for each record. Returns the row of each
        record's part 0.
        """
        counts = [len(record.parts) for record in records]
        firsts: NDArray[np.int64] = self.size + np.cumsum([0, *counts])
        start, end = self.size, int(firsts[-1])
        self.vectors[start:end] = rows.vectors
        self.codes[start:end] = rows.codes.codes
        self.scales[start:end] = rows.codes.scales
        self.errors[start:end] = rows.codes.errors
        self.lengths[start:end] = rows.codes.lengths
        ids = [divmod(record.master_id.int, 1 << 64) for record in records]
        self.ids[start:end] = np.repeat(np.array(ids, dtype=np.uint64), counts, axis=0)
        self.parts[start:end] = np.arange(start, end) - np.repeat(firsts[:-1], counts)
        self.collections[start:end] = np.repeat(collections, counts)
        for record, first in zip(records, firsts.tolist(), strict=False):
            for row, part in enumerate(record.parts, first):
                self.values[row] = self.attributes.add(row, record.attributes)
                self._set_box(row, part.box)
        self.alive[start:end] = True
        self.summarise(end)
        return firsts[:-1]

    def summarise(self, end: int) -> None:
        """Include the rows up to ``end``, whose columns have been written, in searches."""
        rows = slice(self.size, end)
        self.seen.update(np.unique(self.collections[rows]).tolist())
        self.greatest_error = max(self.greatest_error, float(self.errors[rows].max(initial=0)))
        self.greatest_length = max(self.greatest_length, float(self.lengths[rows].max(initial=0)))
        self.live += int(np.count_nonzero(self.alive[rows]))
        self._live_values += int(self.values[rows].sum())
        self.size = end

    def _set_box(self, row: int, box: Box4 | None) -> None:
        if box is not None and self.boxes is None:
            self.boxes = np.zeros((self.capacity, 4), dtype=np.int32)
        if self.boxes is not None:
            self.boxes[row] = box or (0, 0, 0, 0)

    def close(self) -> None:
        """Include all rows, whose columns have been filled, in searches; some may be dead."""
        self.summarise(self.capacity)
        self._dead_values = int(self.values[~self.alive].sum())
        self._live_values -= self._dead_values

    def drop(self, row: int) -> None:
        """Mark the master whose part 0 is in that row as dead, with all its parts."""
        end = row + 1
        while end < self.size and self.parts[end]:
            end += 1
        self.alive[row:end] = False
        self.live -= end - row
        values = int(self.values[row:end].sum())
        self._live_values -= values
        self._dead_values += values

    @property
    def has_many_dead_values(self) -> bool:
        """Whether most attribute values are those of dead rows, and take much memory."""
        return self._dead_values > max(_MAX_DEAD_VALUES, self._live_values)

    @property
    def is_mostly_dead(self) -> bool:
        """Whether a copy of the live rows would take much less memory."""
        return self.live * 2 < self.size or self.has_many_dead_values

    def living(self) -> Mask | None:
        """Return a copy of the mask of the live rows, ``(size,) bool``; None: all are live."""
        return None if self.live == self.size else self.alive[: self.size].copy()

    def masters(self) -> list[tuple[UUID, int]]:
        """Return the live masters, each with the row of its part 0."""
        first = self.alive[: self.size] & (self.parts[: self.size] == 0)
        return [(self._master_id(row), row) for row in np.flatnonzero(first).tolist()]

    def hit(self, row: int, distance: float) -> VectorHit:
        box: Box4 | None = None
        if self.boxes is not None and self.boxes[row, 2]:
            x, y, width, height = self.boxes[row].tolist()
            box = (x, y, width, height)
        return VectorHit(self._master_id(row), distance, int(self.parts[row]), box)

    def _master_id(self, row: int) -> UUID:
        high, low = self.ids[row].tolist()
        return UUID(int=high << 64 | low)


def merge_blocks(blocks: Sequence[VectorBlock]) -> VectorBlock:
    """Return a block with the live rows of others, which searches in progress may still read."""
    rows = sum(block.live for block in blocks)
    merged = VectorBlock(blocks[0].vectors.shape[1], max(ROWS, rows))
    for block in blocks:
        kept = np.flatnonzero(block.alive[: block.size])
        start, end = merged.size, merged.size + len(kept)
        for name in (*CODED_COLUMNS, "vectors", "alive"):
            getattr(merged, name)[start:end] = getattr(block, name)[kept]
        if block.boxes is not None:
            if merged.boxes is None:
                merged.boxes = np.zeros((merged.capacity, 4), dtype=np.int32)
            merged.boxes[start:end] = block.boxes[kept]
        renumbered = np.full(block.size, -1, dtype=np.int64)
        renumbered[kept] = np.arange(start, end)
        merged.attributes.extend(block.attributes, renumbered)
        merged.summarise(end)
    return merged


def gather(
    arrays: Sequence[NDArray[Any]], numbers: NDArray[np.int64], rows: NDArray[np.int64]
) -> Any:
    """Return ``arrays[numbers[i]][rows[i]]`` for each i, in one array; ``numbers`` is sorted."""
    gathered = np.empty((len(rows), *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    starts = np.searchsorted(numbers, np.arange(len(arrays) + 1)).tolist()
    for array, start, end in zip(arrays, starts, starts[1:], strict=False):
        if start < end:
            gathered[start:end] = array[rows[start:end]]
    return gathered
