"""The vector store in memory, which compares a query with every vector."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.filters import Filter, matches
from storage.records import LoadProgress, VectorHit, VectorRecord, check_dimension, check_length

_BATCH = 4096  # ids that are listed at once


class MemoryVectorStore:
    """Implements VectorStore in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[tuple[str, UUID], VectorRecord] = {}

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        with self._lock:
            check_dimension(records, self._dimension(version))
            for record in records:
                self._records[version, record.master_id] = _copied(record)

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        with self._lock:
            for master_id in ids:
                self._records.pop((version, master_id), None)

    def versions(self) -> list[str]:
        with self._lock:
            return sorted({version for version, _ in self._records})

    def drop_version(self, version: str) -> None:
        self.delete(version, [record.master_id for record in self._of(version)])

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        ids = [record.master_id for record in self._of(version)]
        return iter([ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)])

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        wanted = set(ids)
        records = [record for record in self._of(version) if record.master_id in wanted]
        return {record.master_id: _copied(record) for record in records}

    def search(
        self,
        version: str,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None = None,
        max_distance: float | None = None,
    ) -> list[VectorHit]:
        check_length(vector, self._dimension(version))
        chosen = [
            record
            for record in self._of(version)
            if record.collection_id == collection_id
            and (filter is None or matches(filter, record.attributes))
        ]
        hits = [_nearest_part(record, vector) for record in chosen]
        near = [hit for hit in hits if max_distance is None or hit.distance <= max_distance]
        return sorted(near, key=lambda hit: (hit.distance, hit.master_id))[:limit]

    def count(self, version: str) -> int:
        return len(self._of(version))

    def loading(self) -> dict[str, LoadProgress]:
        return {}

    def ping(self) -> None:
        """Do nothing: memory always answers."""

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _dimension(self, version: str) -> int | None:
        return next((len(record.parts[0].vector) for record in self._of(version)), None)

    def _of(self, version: str) -> list[VectorRecord]:
        with self._lock:
            return [record for (its, _), record in self._records.items() if its == version]


def _nearest_part(record: VectorRecord, vector: NDArray[np.float32]) -> VectorHit:
    hits = [
        VectorHit(record.master_id, _distance(part.vector, vector), number, part.box)
        for number, part in enumerate(record.parts)
    ]
    return min(hits, key=lambda hit: (hit.distance, hit.part))


def _distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the cosine distance of two vectors of length 1, rounded so that equal ones tie."""
    product = float(first.astype(np.float64) @ second.astype(np.float64))
    return min(max(round(1.0 - product, 6), 0.0), 2.0)


def _copied(record: VectorRecord) -> VectorRecord:
    """Return the record with copies of its vectors and attributes."""
    parts = tuple(
        replace(part, vector=np.array(part.vector, dtype=np.float32)) for part in record.parts
    )
    return replace(record, parts=parts, attributes=copy.deepcopy(record.attributes))
