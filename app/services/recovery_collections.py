"""Decides which collections a recovery brings back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from app.services.catalogue_files import CatalogueIndex
from storage.errors import CollectionExists
from storage.protocols import MetadataStore
from storage.records import Collection


class RecoveryRefused(Exception):
    """Nothing can be recovered as things are; the message says why and what to do."""


def time_of_id(id_: UUID) -> int:
    """Return when a UUIDv7 was made, in milliseconds since 1970."""
    return id_.int >> 80


class RecoveredCollections:
    """The collections to have after the recovery. Reads the database; ``apply`` changes it."""

    def __init__(
        self,
        metadata: MetadataStore,
        index: CatalogueIndex | None,
        *,
        is_current: bool,
        grace: float,
        fail: Callable[[str, str], None],
    ) -> None:
        """``is_current`` tells that the database is not older than the catalogue."""
        self._metadata = metadata
        self._is_current = is_current
        self._indexed = {each.id: each for each in index.collections} if index else {}
        self._limit = index.at - int(grace * 1000) if index else 0
        self._fail = fail
        self._live = {each.id: (each, count) for each, count in metadata.list_collections()}
        self.deleted_masters = 0  # in collections of an older database that were deleted since
        self._to_delete: list[Collection] = []
        self._wanted: dict[UUID, Collection] = {}

    def choose(self, in_bucket: Iterable[Collection]) -> set[UUID]:
        """Return the ids of the collections to have. ``in_bucket`` are those of the objects.

        Raises RecoveryRefused.
        """
        for collection, count in self._live.values():
            if not self._is_current and self._was_deleted(collection):
                self._to_delete.append(collection)
                self.deleted_masters += count
            else:
                self._wanted[collection.id] = collection
        newest_first = sorted(in_bucket, key=lambda each: each.id, reverse=True)
        for collection in [*self._indexed.values(), *newest_first]:
            if collection.id not in self._live and collection.id not in self._wanted:
                self._consider(collection)
        return set(self._wanted)

    def _was_deleted(self, collection: Collection) -> bool:
        """Tell whether the catalogue shows that the collection had been deleted."""
        return collection.id not in self._indexed and time_of_id(collection.id) < self._limit

    def _consider(self, collection: Collection) -> None:
        if self._was_deleted(collection):
            return
        names = {each.name: each for each in self._wanted.values()}
        other = names.get(collection.name)
        if other is None:
            if not self._is_current or collection.id not in self._indexed:
                self._wanted[collection.id] = collection
        elif self._is_current:
            return  # the database knows that this one was deleted
        elif other.id in self._live and not self._metadata.list_records(None, 1, other.id):
            # A service that started on the empty database made it.
            self._to_delete.append(other)
            del self._wanted[other.id]
            self._wanted[collection.id] = collection
        elif other.id in self._live and collection.id in self._indexed:
            raise RecoveryRefused(
                f"the database has a collection {collection.name} with masters of its own, and"
                " another one of that name is to be recovered. Save the masters with `lookalike"
                " export`, delete the collection, let a worker finish, and run the command again"
            )
        else:
            what = f"the collection {collection.name} with the id {collection.id}"
            self._fail(what, "another one has its name now; its originals stay in the bucket")

    def apply(self) -> set[UUID]:
        """Delete and create collections in the database, and return the ids of those to have.

        One that the database is still deleting stays deleted. Raises StoreUnavailable.
        """
        for collection in self._to_delete:
            self._metadata.delete_collection(collection.name)
        for collection in list(self._wanted.values()):
            if collection.id not in self._live:
                try:
                    self._metadata.import_collection(collection)
                except CollectionExists:
                    del self._wanted[collection.id]
        return set(self._wanted)
