"""Collections: named sets of masters. The collection `default` always exists."""

from __future__ import annotations

import re
from collections.abc import Callable

from app.errors import Conflict, InvalidInput, NotFound
from storage.errors import CollectionExists, CollectionGone
from storage.protocols import MetadataStore
from storage.records import Collection

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Collections:
    """Creates, lists and deletes collections. Every method may raise StoreUnavailable."""

    def __init__(self, metadata: MetadataStore, wake_worker: Callable[[], None]) -> None:
        """``wake_worker`` is called when deleted masters are left to the worker."""
        self._metadata = metadata
        self._wake_worker = wake_worker

    def create_collection(self, name: str) -> Collection:
        """Create an empty collection. Raises InvalidInput, Conflict."""
        check_collection_name(name)
        try:
            return self._metadata.create_collection(name)
        except CollectionExists:
            detail = f"A collection named {name} exists already. Choose another name."
            raise Conflict("collection-exists", detail) from None

    def find_collection(self, name: str) -> Collection:
        """Return the collection; the default one is created if necessary.

        Raises InvalidInput, NotFound.
        """
        check_collection_name(name)
        if name == DEFAULT:
            return self.find_or_create_collection(name)
        collection = self._metadata.find_collection(name)
        if collection is None:
            raise _collection_not_found(name)
        return collection

    def find_or_create_collection(self, name: str) -> Collection:
        """Return the collection, and create it if it does not exist. Raises InvalidInput."""
        check_collection_name(name)
        while True:  # another process may create or delete the same name at the same time
            collection = self._metadata.find_collection(name)
            if collection is not None:
                return collection
            try:
                return self._metadata.create_collection(name)
            except (CollectionExists, CollectionGone):
                continue

    def list_collections(self) -> list[tuple[Collection, int]]:
        """Return all collections by name, each with its number of stored masters."""
        return self._metadata.list_collections()

    def delete_collection(self, name: str) -> None:
        """Delete a collection with all its masters; the worker removes their bytes and vectors.

        Raises InvalidInput, NotFound.
        """
        check_collection_name(name)
        if not self._metadata.delete_collection(name):
            raise _collection_not_found(name)
        self._wake_worker()

    def empty_collection(self, name: str) -> None:
        """Delete all masters of a collection, in one step. Raises InvalidInput, NotFound."""
        check_collection_name(name)
        if not self._metadata.empty_collection(name):
            raise _collection_not_found(name)
        self._wake_worker()

    def count_pending_embeddings(self) -> int:
        """Return the number of pending embeddings, of all collections and model versions."""
        return self._metadata.count_pending_embeddings()


def check_collection_name(name: str) -> None:
    """Raise InvalidInput unless ``name`` is a valid name for a collection."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "invalid-collection-name",
            "The name of a collection has 1 to 63 characters: a-z, 0-9 and hyphens. It starts with"
            " a letter or a digit.",
        )


def _collection_not_found(name: str) -> NotFound:
    detail = f"There is no collection named {name}. An upload that names it creates it."
    return NotFound("collection-not-found", detail)
