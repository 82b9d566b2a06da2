"""Uploads and named leases in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from uuid import UUID

from storage.errors import CollectionGone
from storage.records import Claim, Master, MasterState, NewMaster, Reservation
from tests.support.memory_stores.tables import (
    LIVE_MODELS,
    Leased,
    MasterRow,
    OnTables,
    hold_the_lock,
)


@hold_the_lock
class MemoryUploads(OnTables):
    """Implements UploadStore in memory."""

    def reserve_master(
        self, collection_id: UUID, new: NewMaster, owner: str, lease: float
    ) -> Reservation:
        tables = self._tables
        collection = tables.collections.get(collection_id)
        if collection is None or not collection.live:
            raise CollectionGone(str(collection_id))
        row = tables.find_live_hash(collection_id, new.sha256)
        if row is None:
            row = self._insert_pending(collection_id, collection.collection.name, new)
        elif row.master.state is MasterState.DAMAGED:
            return Reservation(Claim.DAMAGED, row.read())
        elif row.master.state is MasterState.STORED:
            return Reservation(Claim.EXISTS, row.read())
        elif not tables.is_free(row):
            return Reservation(Claim.BUSY, row.read())
        else:
            row.change(
                name=new.name,
                attributes=copy.deepcopy(new.attributes),
                capture=copy.deepcopy(new.capture),
                capture_reader=new.capture_reader,
                updated_at=tables.now(),
            )
        row.hold(owner, tables.from_now(lease))
        return Reservation(Claim.OURS, row.read())

    def renew_reservation(self, master_id: UUID, owner: str, lease: float) -> bool:
        row = self._find_reserved(master_id, owner)
        if row is None:
            return False
        row.hold(owner, self._tables.from_now(lease))
        return True

    def commit_stored(
        self, master_id: UUID, owner: str, versions: Sequence[str], lease: float
    ) -> list[str] | None:
        tables = self._tables
        row = self._find_reserved(master_id, owner)
        if row is None or not tables.is_in_live_collection(row):
            return None
        row.release()
        row.change(state=MasterState.STORED)
        live = [id_ for id_, model in tables.models.items() if model.state in LIVE_MODELS]
        for version in live:
            embedding = tables.add_embedding(master_id, version)
            if version in versions:
                embedding.hold(owner, tables.from_now(lease))
        return [version for version in versions if version in live]

    def abandon_reservation(self, master_id: UUID, owner: str) -> bool:
        row = self._find_reserved(master_id, owner)
        if row is None:
            return False
        self._tables.mark_deleting(row)
        return True

    def expire_reservations(self) -> int:
        tables = self._tables
        expired = [
            row
            for row in tables.masters.values()
            if row.master.state is MasterState.PENDING
            and row.until is not None
            and tables.past(row.until)
        ]
        for row in expired:
            tables.mark_deleting(row)
        return len(expired)

    def _insert_pending(self, collection_id: UUID, collection: str, new: NewMaster) -> MasterRow:
        now = self._tables.now()
        columns = copy.deepcopy(vars(new))
        master = Master(
            id=self._tables.next_id(),
            collection_id=collection_id,
            collection=collection,
            revision=1,
            state=MasterState.PENDING,
            created_at=now,
            updated_at=now,
            **columns,
        )
        row = MasterRow(master=master)
        self._tables.masters[master.id] = row
        return row

    def _find_reserved(self, master_id: UUID, owner: str) -> MasterRow | None:
        """Return the pending row of this master that ``owner`` holds."""
        row = self._tables.masters.get(master_id)
        if row is None or row.owner != owner or row.master.state is not MasterState.PENDING:
            return None
        return row


@hold_the_lock
class MemoryLeases(OnTables):
    """Implements LeaseStore in memory."""

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        tables = self._tables
        row = tables.leases.setdefault(name, Leased())
        held = row.until is not None and row.until >= tables.now()
        if held and row.owner != owner:
            return False
        row.hold(owner, tables.from_now(seconds))
        return True

    def release_lease(self, name: str, owner: str) -> None:
        row = self._tables.leases.get(name)
        if row is not None and row.owner == owner:
            del self._tables.leases[name]

    def is_leased(self, name: str) -> bool:
        row = self._tables.leases.get(name)
        return row is not None and row.until is not None and row.until > self._tables.now()

    def find_lease_end(self, name: str) -> int | None:
        row = self._tables.leases.get(name)
        return None if row is None else row.until

    def release_owned_leases(self, owner: str) -> None:
        for row in [*self._tables.masters.values(), *self._tables.embeddings.values()]:
            if row.owner == owner:
                # A moment in the past, so that an unfinished upload is found to be expired.
                row.owner, row.until = None, 0
