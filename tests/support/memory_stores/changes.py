"""Changes of many masters in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from uuid import UUID

from storage.filters import Filter, matches
from storage.protocols.changes import AttributeUpdate
from storage.records import Master
from tests.support.memory_stores.tables import KEPT, MasterRow, OnTables, hold_the_lock


@hold_the_lock
class MemoryChanges(OnTables):
    """Implements ChangeStore in memory."""

    def select_masters(
        self, collection_id: UUID, filter: Filter, limit: int, before: UUID | None
    ) -> list[Master]:
        found = [
            row.read()
            for row in self._tables.masters.values()
            if row.master.collection_id == collection_id
            and self._tables.is_visible(row)
            and (before is None or row.master.id < before)
            and matches(filter, row.master.filterable)
        ]
        return sorted(found, key=lambda master: master.id, reverse=True)[:limit]

    def update_masters(self, collection_id: UUID, updates: Sequence[AttributeUpdate]) -> set[UUID]:
        updated = set()
        now = self._tables.now()
        for update in updates:
            row = self._find_unchanged(collection_id, update.master_id, update.revision)
            if row is None or not self._tables.is_visible(row):
                continue
            attributes = copy.deepcopy(update.attributes)
            row.change(attributes=attributes, revision=update.revision + 1, updated_at=now)
            for embedding in self._tables.embeddings_of(update.master_id):
                embedding.queue(now)
            updated.add(update.master_id)
        return updated

    def delete_masters(self, collection_id: UUID, revisions: Mapping[UUID, int]) -> set[UUID]:
        deleted = set()
        for master_id, revision in revisions.items():
            row = self._find_unchanged(collection_id, master_id, revision)
            if row is not None and self._tables.is_in_live_collection(row):
                self._tables.mark_deleting(row)
                deleted.add(master_id)
        return deleted

    def _find_unchanged(
        self, collection_id: UUID, master_id: UUID, revision: int
    ) -> MasterRow | None:
        row = self._tables.masters.get(master_id)
        if row is None or row.master.state not in KEPT:
            return None
        same = (row.master.collection_id, row.master.revision) == (collection_id, revision)
        return row if same else None
