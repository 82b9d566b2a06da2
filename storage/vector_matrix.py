"""Keeps the vectors of one model version in memory, and searches them exactly."""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import Mask
from storage.filters import Filter
from storage.master_positions import MasterPositions
from storage.records import VectorHit, VectorRecord, check_dimension, check_length
from storage.shared_passes import SharedPasses
from storage.vector_blocks import ROWS, EncodedRows, VectorBlock, encode_rows, merge_blocks
from storage.vector_pass import compare_all, decide_hits
from storage.vector_queries import Query, View

_ROW_BITS = 32  # of a position, for the row; the others are the number of the block


@dataclass(frozen=True)
class BlockView:
    """The rows that a block had at a moment, and which of them were not dead."""

    block: VectorBlock
    size: int
    alive: Mask  # (size,)


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
        self._positions = MasterPositions()  # of part 0: the block's number and the row
        self._collection_codes: dict[UUID, int] = {}
        self._passes = SharedPasses()

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
            self._positions.add(record.master_id, number << _ROW_BITS | row)
        self._several = self._several or end > count
        return records[count:], rows[end:]

    def drop_rows(self, ids: Sequence[UUID]) -> None:
        """Remove all parts of these masters; ids without a vector are ignored."""
        with self._lock:
            for master_id in ids:
                self._drop(master_id)

    def _drop(self, master_id: UUID) -> None:
        position = self._positions.pop(master_id)
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
                self._positions.pop(master_id)
                self._positions.add(master_id, number << _ROW_BITS | row)

    def restore(self, blocks: Sequence[tuple[VectorBlock, Sequence[UUID]]]) -> None:
        """Fill an empty matrix with filled blocks, each with its collections by their codes.

        Blocks that are mostly empty are copied into one that has room.
        """
        with self._lock:
            for block, collections in blocks:
                codes = self._collection_codes
                renumbered = [codes.setdefault(each, len(codes)) for each in collections]
                block.collections = np.array(renumbered, dtype=np.int32)[block.collections]
                block.close()
                self._dimension = block.vectors.shape[1]
            full = [block for block, _ in blocks if block.live * 2 >= ROWS]
            small = [block for block, _ in blocks if 0 < block.live * 2 < ROWS]
            kept = [*full, *([merge_blocks(small)] if small else [])]
            self._blocks, self._next_number = dict(enumerate(kept)), len(kept)
            firsts = [
                block.alive[: block.size] & (block.parts[: block.size] == 0) for block in kept
            ]
            if kept:
                rows_of = [np.flatnonzero(first) for first in firsts]
                self._several = sum(map(len, rows_of)) < sum(block.live for block in kept)
                ids = [block.ids[rows] for block, rows in zip(kept, rows_of, strict=True)]
                positions = [number << _ROW_BITS | rows for number, rows in enumerate(rows_of)]
                self._positions.add_many(np.concatenate(ids), np.concatenate(positions))

    def list_blocks(self) -> tuple[list[BlockView], list[UUID]]:
        """Return what there is now, and the collections by their codes."""
        with self._lock:
            views = [
                BlockView(block, block.size, block.alive[: block.size].copy())
                for block in self._blocks.values()
                if block.size
            ]
            return views, list(self._collection_codes)

    def move_vectors(self, block: VectorBlock, vectors: NDArray[np.float32]) -> None:
        """Replace the vectors of a block by equal ones, unless rows may be appended to it."""
        with self._lock:
            if block is not self._blocks.get(self._next_number - 1):
                block.vectors = vectors

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
        query = self._prepare(collection_id, vector, limit, filter, max_distance)
        if query.views:
            self._passes.run(query, partial(compare_all, pool))
        return decide_hits(query)

    def _prepare(
        self,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None,
        max_distance: float | None,
    ) -> Query:
        """Note which rows there are, and choose those that the search is about."""
        with self._lock:
            check_length(vector, self._dimension)
            code = self._collection_codes.get(collection_id)
            blocks = list(self._blocks.values()) if code is not None else []
            seen = [
                (block, block.size, block.living(), len(block.seen) > 1)
                for block in blocks
                if code in block.seen
            ]
            several = self._several
        views = []
        for block, size, living, is_shared in seen:
            masks = [] if living is None else [living]
            if is_shared:
                masks.append(block.collections[:size] == code)
            if filter is not None:
                masks.append(block.attributes.select(filter, size))
            chosen = reduce(operator.and_, masks) if masks else None
            if chosen is None or chosen.any():
                views.append(View(block, size, chosen))
        return Query(vector, views, limit, max_distance, several)
