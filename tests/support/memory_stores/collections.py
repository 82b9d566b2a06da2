"""Collections in memory: creation, listing, deletion and the draining that follows it."""

from __future__ import annotations

from storage.errors import CollectionExists
from storage.records import Collection, MasterState
from tests.support.memory_stores.tables import KEPT, CollectionRow, OnTables, hold_the_lock

_DRAINED = (*KEPT, MasterState.REMOVED)


@hold_the_lock
class MemoryCollections(OnTables):
    """Implements CollectionStore in memory."""

    def create_collection(self, name: str) -> Collection:
        if self._tables.find_live(name) is not None:
            raise CollectionExists(name)
        return self._insert(name)

    def find_collection(self, name: str) -> Collection | None:
        row = self._tables.find_live(name)
        return None if row is None else row.collection

    def list_collections(self) -> list[tuple[Collection, int]]:
        stored = [
            row.master.collection_id
            for row in self._tables.masters.values()
            if row.master.state is MasterState.STORED
        ]
        live = [row.collection for row in self._tables.collections.values() if row.live]
        live.sort(key=lambda collection: collection.name)
        return [(collection, stored.count(collection.id)) for collection in live]

    def delete_collection(self, name: str) -> bool:
        row = self._tables.find_live(name)
        if row is None:
            return False
        row.live = False
        return True

    def empty_collection(self, name: str) -> bool:
        row = self._tables.find_live(name)
        if row is None:
            return False
        row.live = False
        self._insert(name)
        return True

    def drain_collections(self, limit: int) -> int:
        tables = self._tables
        moved = 0
        deleted = [id_ for id_, row in tables.collections.items() if not row.live]
        for collection_id in deleted:
            rows = tables.masters.values()
            inside = [row for row in rows if row.master.collection_id == collection_id]
            some = [row for row in inside if row.master.state in _DRAINED][: limit - moved]
            for row in some:
                tables.mark_deleting(row)
            moved += len(some)
            if not inside:
                del tables.collections[collection_id]
                scans = list(tables.scans.values())
                for scan in scans:
                    if collection_id in scan.collection_ids:
                        del tables.scans[scan.id]
        return moved

    def _insert(self, name: str) -> Collection:
        collection = Collection(self._tables.next_id(), name, self._tables.now())
        self._tables.collections[collection.id] = CollectionRow(collection)
        return collection
