"""Stored masters in memory: lookup, changes, damage and deletion."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

from storage.errors import MasterChanged
from storage.records import Attributes, Master, MasterState
from tests.support.memory_stores.tables import KEPT, MasterRow, OnTables, hold_the_lock


@hold_the_lock
class MemoryMasters(OnTables):
    """Implements MasterStore in memory."""

    def find_master(self, master_id: UUID) -> Master | None:
        row = self._tables.find_visible(master_id)
        return None if row is None else row.read()

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        live = self._tables.find_live(collection)
        if live is None:
            return None
        row = self._tables.find_live_hash(live.collection.id, sha256)
        return row.read() if row is not None and self._tables.is_visible(row) else None

    def is_taken(self, collection: str, sha256: bytes) -> bool:
        live = self._tables.find_live(collection)
        if live is None:
            return False
        return self._tables.find_live_hash(live.collection.id, sha256) is not None

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        rows = [self._tables.find_visible(master_id) for master_id in ids]
        return {
            row.master.id: row.read()
            for row in rows
            if row is not None and row.master.collection_id == collection_id
        }

    def update_master(
        self,
        master_id: UUID,
        *,
        name: str | None,
        attributes: Attributes | None,
        revisions: Container[int] | None = None,
    ) -> Master | None:
        row = self._tables.find_visible(master_id)
        if row is None:
            return None
        _check_revision(row, revisions)
        now = self._tables.now()
        row.change(revision=row.master.revision + 1, updated_at=now)
        if name is not None:
            row.change(name=name)
        if attributes is not None:
            row.change(attributes=copy.deepcopy(attributes))
        for embedding in self._tables.embeddings_of(master_id):
            embedding.queue(now)
        return row.read()

    def mark_damaged(self, master_id: UUID) -> bool:
        return self._change_state(master_id, MasterState.STORED, MasterState.DAMAGED)

    def restore_damaged(self, master_id: UUID) -> bool:
        restored = self._change_state(
            master_id, MasterState.DAMAGED, MasterState.STORED, capture_reader=0
        )
        if restored:
            self._tables.features.pop(master_id, None)
            self._tables.compare_again(self._tables.masters[master_id])
        return restored

    def delete_master(self, master_id: UUID, revisions: Container[int] | None = None) -> bool:
        row = self._tables.masters.get(master_id)
        if row is None or row.master.state not in KEPT:
            return False
        if not self._tables.is_in_live_collection(row):
            return False
        _check_revision(row, revisions)
        self._tables.mark_deleting(row)
        return True

    def claim_deleting(self, owner: str, limit: int, lease: float) -> list[Master]:
        due = [
            row
            for row in self._tables.masters.values()
            if row.master.state is MasterState.DELETING and self._tables.is_free(row)
        ]
        for row in due[:limit]:
            row.hold(owner, self._tables.from_now(lease))
        return [row.read() for row in due[:limit]]

    def forget_master(self, master_id: UUID, owner: str) -> None:
        row = self._tables.masters.get(master_id)
        if row is None or row.master.state is not MasterState.DELETING or row.owner != owner:
            return
        self._tables.remove_master(master_id)
        self._tables.forget_duplicates(master_id)

    def _change_state(
        self, master_id: UUID, old: MasterState, new: MasterState, **values: Any
    ) -> bool:
        row = self._tables.masters.get(master_id)
        if row is None or row.master.state is not old:
            return False
        row.change(state=new, **values)
        return True


def _check_revision(row: MasterRow, revisions: Container[int] | None) -> None:
    if revisions is not None and row.master.revision not in revisions:
        raise MasterChanged(row.master.revision)
