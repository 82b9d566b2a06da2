"""Reads the vectors of masters for clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from app.services.masters import Masters
from app.services.queries import View
from storage.protocols import Stores
from storage.records import ModelState, VectorPart, VectorRecord

_BATCH = 500  # masters read at once


@dataclass(frozen=True)
class SpaceVectors:
    """The vectors that a master has in one space."""

    space: str
    version: str
    parts: tuple[VectorPart, ...]


class StoredVectors:
    """Reads vectors from the vector store. Every method may raise StoreUnavailable."""

    def __init__(self, stores: Stores, masters: Masters) -> None:
        self._stores = stores
        self._masters = masters

    def list_vectors(self, master_id: UUID) -> list[SpaceVectors]:
        """Return a master's vectors in every space that has an active version and them.

        Raises NotFound.
        """
        master = self._masters.find_master(master_id)
        active = [
            model
            for model in self._stores.registry.list_models()
            if model.state is ModelState.ACTIVE
        ]
        found = []
        for model in active:
            records = self._stores.vectors.fetch_vectors(model.id, [master.id])
            if master.id in records:
                found.append(SpaceVectors(model.space, model.id, records[master.id].parts))
        return found

    def fetch(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        """Return the records of these masters; those without a vector are left out."""
        return self._stores.vectors.fetch_vectors(version, ids)

    def find_nearest_parts(
        self, ids: Sequence[UUID], versions: Mapping[str, str], views: Sequence[View]
    ) -> dict[UUID, dict[str, VectorPart]]:
        """Return the part of each master that is nearest to a query, by space."""
        parts: dict[UUID, dict[str, VectorPart]] = {id_: {} for id_ in ids}
        for space, version in versions.items():
            wanted = [
                aspect.vector for view in views for aspect in view if aspect.version == version
            ]
            if not wanted:  # the weights of its examples are 0
                continue
            for start in range(0, len(ids), _BATCH):
                some = ids[start : start + _BATCH]
                for id_, record in self._stores.vectors.fetch_vectors(version, some).items():
                    vectors = np.stack([part.vector for part in record.parts])
                    nearest = int((np.stack(wanted) @ vectors.T).max(axis=0).argmax())
                    parts[id_][space] = record.parts[nearest]
        return parts
