"""Deletions that can be undone, in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from uuid import UUID

from storage.protocols import Deletion, NewDeletion, Removal, Restored
from storage.records import Attributes, MasterState
from tests.support.memory_stores.tables import (
    DEAD,
    LIVE_MODELS,
    DeletionRow,
    MasterRow,
    OnTables,
    hold_the_lock,
)

_SETTLED = ("undo", 1 << 62)  # the lease of a removed row without vectors


@hold_the_lock
class MemoryDeletions(OnTables):
    """Implements DeletionStore in memory."""

    def remove_masters(self, deletion: NewDeletion, removals: Sequence[Removal]) -> set[UUID]:
        tables = self._tables
        done = [each for each in removals if self._is_as_seen(each)]
        ids = {id_ for each in done for id_ in each.revisions}
        if ids and deletion.id not in tables.deletions:
            until = tables.from_now(deletion.seconds)
            tables.deletions[deletion.id] = DeletionRow(deletion, tables.now(), until)
        for id_ in ids:
            row = tables.masters[id_]
            row.release()
            row.deletion_id = deletion.id
            row.change(state=MasterState.REMOVED, updated_at=tables.now())
            for embedding in tables.embeddings_of(id_):
                del tables.embeddings[id_, embedding.version]
        for removal in done:
            kept = removal.kept
            if kept is not None and kept.attributes is not None:
                before = tables.masters[kept.id].master.attributes
                merged = (before, kept.revision + 1)
                tables.deletions[deletion.id].merged[kept.id] = merged
                self._set_attributes(kept.id, kept.attributes)
        return ids

    def find_deletion(self, deletion_id: UUID) -> Deletion | None:
        found = [each for each in self._list() if each.id == deletion_id]
        return found[0] if found else None

    def list_deletions(self, collection_id: UUID | None, limit: int) -> list[Deletion]:
        found = [each for each in self._list() if self._left(each.id, collection_id)]
        return sorted(found, key=lambda each: (each.created_at, each.id), reverse=True)[:limit]

    def list_removed(self, deletion_id: UUID) -> list[UUID]:
        if not self._can_be_undone(deletion_id):
            return []
        return [row.master.id for row in self._removed(deletion_id)]

    def restore_attributes(self, deletion_id: UUID) -> int:
        if not self._can_be_undone(deletion_id):
            return 0
        tables, count = self._tables, 0
        merged = tables.deletions[deletion_id].merged
        for id_, (attributes, revision) in merged.items():
            row = tables.masters.get(id_)
            if row is None or not tables.is_visible(row) or row.master.revision != revision:
                continue
            self._set_attributes(id_, attributes)
            count += 1
        merged.clear()
        return count

    def restore_masters(self, deletion_id: UUID, ids: Sequence[UUID]) -> Restored:
        tables, restored = self._tables, Restored()
        if not self._can_be_undone(deletion_id):
            return restored
        for row in sorted(self._removed(deletion_id), key=lambda row: row.master.id):
            master = row.master
            if master.id not in ids or not tables.is_in_live_collection(row):
                continue
            other = tables.find_live_hash(master.collection_id, master.sha256)
            if other is not None:
                restored.conflicts[master.id] = other.master.id
            elif not tables.is_free(row):
                restored.held.add(master.id)
            else:
                self._store_again(row)
                tables.compare_again(row)
                restored.masters.add(master.id)
        if not self._removed(deletion_id):
            del tables.deletions[deletion_id]
        return restored

    def claim_removed(self, owner: str, limit: int, lease: float) -> list[UUID]:
        due = [
            row
            for row in self._tables.masters.values()
            if row.master.state is MasterState.REMOVED
            and (row.owner, row.until) != _SETTLED
            and self._tables.is_free(row)
        ][:limit]
        for row in due:
            row.hold(owner, self._tables.from_now(lease))
        return [row.master.id for row in due]

    def settle_removed(self, ids: Sequence[UUID], owner: str) -> None:
        for id_ in ids:
            row = self._tables.masters.get(id_)
            if row is None:
                continue
            if row.master.state is MasterState.REMOVED and row.owner == owner:
                row.hold(*_SETTLED)
            elif row.master.state is MasterState.STORED:
                for embedding in self._tables.embeddings_of(id_):
                    if embedding.state != DEAD:
                        embedding.release()
                        embedding.queue(self._tables.now())

    def expire_deletions(self, limit: int) -> int:
        tables = self._tables
        over = [id_ for id_, row in tables.deletions.items() if row.undo_until <= tables.now()]
        if not over:
            return 0
        removed = self._removed(over[0])[:limit]
        for row in removed:
            tables.mark_deleting(row)
        if len(removed) < limit:
            del tables.deletions[over[0]]
        return max(1, len(removed))

    def _is_as_seen(self, removal: Removal) -> bool:
        seen = dict(removal.revisions)
        if removal.kept is not None:
            seen[removal.kept.id] = removal.kept.revision
        rows = {id_: self._tables.masters.get(id_) for id_ in seen}
        return all(
            row is not None and self._tables.is_visible(row) and row.master.revision == seen[id_]
            for id_, row in rows.items()
        )

    def _set_attributes(self, id_: UUID, attributes: Attributes) -> None:
        row, now = self._tables.masters[id_], self._tables.now()
        row.change(attributes=copy.deepcopy(attributes), updated_at=now)
        row.change(revision=row.master.revision + 1)
        for embedding in self._tables.embeddings_of(id_):
            embedding.queue(now)

    def _store_again(self, row: MasterRow) -> None:
        tables = self._tables
        row.release()
        row.deletion_id = None
        row.change(state=MasterState.STORED, updated_at=tables.now())
        row.change(revision=row.master.revision + 1)
        for version, model in tables.models.items():
            if model.state in LIVE_MODELS:
                tables.add_embedding(row.master.id, version)

    def _can_be_undone(self, deletion_id: UUID) -> bool:
        row = self._tables.deletions.get(deletion_id)
        return row is not None and row.undo_until > self._tables.now()

    def _removed(self, deletion_id: UUID) -> list[MasterRow]:
        return [row for row in self._tables.masters.values() if row.deletion_id == deletion_id]

    def _left(self, deletion_id: UUID, collection_id: UUID | None = None) -> list[MasterRow]:
        """Return the removed masters in live collections, or in one of them."""
        return [
            row
            for row in self._removed(deletion_id)
            if self._tables.is_in_live_collection(row)
            and collection_id in (None, row.master.collection_id)
        ]

    def _list(self) -> list[Deletion]:
        return [
            Deletion(
                id_, name, row.deletion.reason, row.created_at, row.undo_until, len(self._left(id_))
            )
            for id_, row in self._tables.deletions.items()
            if self._can_be_undone(id_) and (name := self._name_of(row.deletion)) is not None
        ]

    def _name_of(self, deletion: NewDeletion) -> str | None:
        """Return the name of its collection, or if that is deleted, of one that it removed from."""
        collections = self._tables.collections
        own = collections.get(deletion.collection_id)
        if own is not None and own.live:
            return own.collection.name
        left = self._left(deletion.id)
        return min(
            (collections[row.master.collection_id].collection.name for row in left), default=None
        )
