"""Collections: named sets of masters. The one called `default` is always there."""

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
    def __init__(self, metadata: MetadataStore, wake_worker: Callable[[], None]) -> None:
        self._metadata = metadata
        self._wake_worker = wake_worker

    def create(self, name: str) -> Collection:
        check_name(name)
        try:
            return self._metadata.create_collection(name)
        except CollectionExists:
            raise Conflict(
                "collection-exists", f"There is a collection {name!r} already."
            ) from None

    def find(self, name: str) -> Collection:
        """Raises NotFound."""
        check_name(name)
        found = self._metadata.find_collection(name)
        if found is None and name == DEFAULT:
            return self.find_or_create(name)
        if found is None:
            raise NotFound(
                "collection-not-found",
                f"There is no collection {name!r}. An upload that names it creates it.",
            )
        return found

    def find_or_create(self, name: str) -> Collection:
        check_name(name)
        while True:  # whoever creates or deletes the same name meanwhile, the next look tells
            found = self._metadata.find_collection(name)
            if found is not None:
                return found
            try:
                return self._metadata.create_collection(name)
            except (CollectionExists, CollectionGone):
                continue

    def list(self) -> list[tuple[Collection, int]]:
        return self._metadata.list_collections()

    def delete(self, name: str) -> None:
        check_name(name)
        if not self._metadata.delete_collection(name):
            raise NotFound("collection-not-found", f"There is no collection {name!r}.")
        self._wake_worker()

    def count_pending(self) -> int:
        """Return the number of embeddings, of all collections and versions, that are not made yet."""
        return self._metadata.count_pending_embeddings()

    def empty(self, name: str) -> None:
        """Delete all masters; the name is never without a collection. Raises NotFound."""
        check_name(name)
        if not self._metadata.empty_collection(name):
            raise NotFound("collection-not-found", f"There is no collection {name!r}.")
        self._wake_worker()


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "invalid-collection-name",
            "A collection's name has 1 to 63 characters: a-z, 0-9 and -, the first no hyphen.",
        )
