"""The vector store: one embedding per master and model version, searched by distance.

An embedding has one part or more, each with a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.filters import Filter
from storage.records import LoadProgress, VectorHit, VectorRecord


class VectorStore(Protocol):
    """Vectors, kept apart by model version. A search sees every write that returned before it.

    Every method may raise StoreUnavailable. A version without vectors is unknown, which is not an
    error: it is searched, counted and listed as empty.

    The first vector of a version sets its dimension until the version is dropped. A vector of
    another length raises ValueError, which the caller must not retry.
    """

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        """Insert the records; each replaces all parts of the master's earlier one.

        A store that can compare revisions keeps the stored record if that is newer. Callers must
        not rely on it: Milvus keeps what is written last.

        Records are written in batches, so after an error some may be stored. Writing all of them
        again is safe. An empty sequence inserts nothing. Raises ValueError, and writes nothing, if
        a vector does not have the version's dimension.
        """

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        """Delete all parts of these masters; ids without a vector are ignored."""

    def versions(self) -> list[str]:
        """Return the versions that the store knows, in alphabetical order."""

    def drop_version(self, version: str) -> None:
        """Delete a version with all its vectors; do nothing if it is unknown."""

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        """Yield the ids of all masters with a vector, in batches, each id once.

        Ids that are added or deleted meanwhile may or may not be among them.
        """

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        """Return the records of these masters by id, with all parts in order.

        Masters without a vector are left out, and so are masters that lack a part because a write
        failed.
        """

    def search(
        self,
        version: str,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None = None,
        max_distance: float | None = None,
    ) -> list[VectorHit]:
        """Return up to ``limit`` masters of a collection, nearest first, ties ordered by id.

        Each master is returned once, with its nearest part, or the first of several that are
        equally near. ``vector`` is ``(dimension,) float32`` of length 1. With ``filter`` None, all
        are selected. A store may also return masters that only a negation in the filter excludes,
        so the caller checks each hit. ``max_distance`` is a cosine distance, 0 to 2, and inclusive;
        None sets no bound. Raises ValueError if ``vector`` does not have the version's dimension.
        """

    def count(self, version: str) -> int:
        """Return the number of masters with a vector of a version."""

    def loading(self) -> dict[str, LoadProgress]:
        """Return the versions that this process is still reading into memory.

        A search of one of them waits. Does not raise StoreUnavailable.
        """

    def ping(self) -> None:
        """Raise StoreUnavailable if the store does not answer."""

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards."""
