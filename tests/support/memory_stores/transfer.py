"""Whole records in memory, for checking the stores and for copying an installation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from storage.errors import CollectionExists, MasterExists
from storage.records import Collection, MasterRecord, MasterRevision, MasterState
from tests.support.memory_stores.tables import (
    GONE,
    INDEXED,
    KEPT,
    CollectionRow,
    MasterRow,
    OnTables,
    hold_the_lock,
)


@hold_the_lock
class MemoryRecords(OnTables):
    """Implements RecordStore in memory."""

    def list_records(
        self, after: UUID | None, limit: int, collection_id: UUID | None = None
    ) -> list[MasterRecord]:
        rows = [
            row
            for row in self._tables.masters.values()
            if row.master.state in KEPT
            and self._tables.is_in_live_collection(row)
            and collection_id in (None, row.master.collection_id)
            and (after is None or row.master.id > after)
        ]
        rows.sort(key=lambda row: row.master.id)
        return [self._record(row) for row in rows[:limit]]

    def list_revisions(
        self, collection_id: UUID, after: UUID | None, limit: int
    ) -> list[MasterRevision]:
        masters = [
            row.master
            for row in self._tables.masters.values()
            if row.master.collection_id == collection_id
            and row.master.state in KEPT
            and (after is None or row.master.id > after)
        ]
        masters.sort(key=lambda master: master.id)
        return [
            MasterRevision(each.id, each.revision, each.updated_at, each.state)
            for each in masters[:limit]
        ]

    def find_records(self, ids: Sequence[UUID]) -> dict[UUID, MasterRecord]:
        rows = [self._tables.masters.get(master_id) for master_id in ids]
        return {row.master.id: self._record(row) for row in rows if row is not None}

    def count_unfinished(self) -> int:
        unfinished = (MasterState.PENDING, MasterState.DELETING)
        masters = sum(row.master.state in unfinished for row in self._tables.masters.values())
        return masters + sum(not row.live for row in self._tables.collections.values())

    def import_collection(self, collection: Collection) -> None:
        same_name = self._tables.find_live(collection.name)
        if same_name is not None and same_name.collection == collection:
            return
        if same_name is not None or collection.id in self._tables.collections:
            raise CollectionExists(collection.name)
        self._tables.collections[collection.id] = CollectionRow(collection)

    def import_records(self, records: Sequence[MasterRecord]) -> None:
        self._check_importable(records)
        for record in records:
            master = record.master
            self._tables.remove_master(master.id)
            name = self._tables.collections[master.collection_id].collection.name
            attributes = copy.deepcopy(master.attributes)
            self._tables.masters[master.id] = MasterRow(
                master=replace(master, collection=name, attributes=attributes)
            )
            for version, revision in record.indexed.items():
                row = self._tables.add_embedding(master.id, version)
                row.run_after = 0
                if revision is not None:
                    row.state, row.indexed_revision = INDEXED, revision

    def _check_importable(self, records: Sequence[MasterRecord]) -> None:
        """Raise MasterExists unless all records can be inserted together."""
        imported = {record.master.id for record in records}
        taken = {
            (row.master.collection_id, row.master.sha256)
            for row in self._tables.masters.values()
            if row.master.state not in GONE and row.master.id not in imported
        }
        for record in records:
            key = record.master.collection_id, record.master.sha256
            if key in taken or key[0] not in self._tables.collections:
                raise MasterExists(str(record.master.id))
            taken.add(key)

    def _record(self, row: MasterRow) -> MasterRecord:
        indexed = {
            embedding.version: embedding.indexed_revision if embedding.state == INDEXED else None
            for embedding in self._tables.embeddings_of(row.master.id)
        }
        return MasterRecord(row.read(), indexed)
