"""What is there: looking at masters, changing, deleting them; their bytes and thumbnails."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

from cachetools import LRUCache

from app.errors import InvalidInput, NotFound, Unavailable
from app.services.collections import Collections
from app.services.indexing import Indexing
from app.services.ingest import checked_attributes
from app.services.names import clean_name
from app.services.originals import original
from app.services.vision import Vision
from storage.errors import ObjectMissing
from storage.filters import Filter
from storage.protocols import Stores
from storage.records import Master, Page


class Masters:
    def __init__(
        self,
        stores: Stores,
        collections: Collections,
        vision: Vision,
        indexing: Indexing,
        cache_bytes: int,
        wake_worker: Callable[[], None],
    ) -> None:
        self._stores = stores
        self._collections = collections
        self._vision = vision
        self._indexing = indexing
        self._wake_worker = wake_worker
        self._thumbnails: LRUCache[tuple[bytes, int], bytes] = LRUCache(
            max(1, cache_bytes), getsizeof=len
        )
        self._lock = threading.Lock()

    def find(self, master_id: UUID) -> Master:
        """Raises NotFound."""
        master = self._stores.metadata.find_master(master_id)
        if master is None:
            raise NotFound("master-not-found", f"There is no master {master_id}.")
        return master

    def list(
        self,
        collection: str,
        filter: Filter | None,
        limit: int,
        after: UUID | None,
        offset: int = 0,
    ) -> tuple[Page, int]:
        """A page, newest first, and how many there are in all."""
        found = self._collections.find(collection)
        metadata = self._stores.metadata
        return metadata.list_masters(
            found.id, filter, limit, after, offset
        ), metadata.count_masters(found.id, filter)

    def update(self, master_id: UUID, name: str | None, attributes: object | None) -> Master:
        """Attributes given replace those there."""
        if name is not None and set(name) & set(
            "/\\"
        ):  # an upload's path loses its folders; here somebody would lose words
            raise InvalidInput(
                "invalid-name", "A name has no / and no \\: these are between folders."
            )
        cleaned = clean_name(name) if name is not None else None
        if cleaned == "":
            raise InvalidInput(
                "invalid-name", "A name needs at least one character that can be seen."
            )
        changed = self._stores.metadata.update_master(
            master_id,
            name=cleaned,
            attributes=checked_attributes(attributes) if attributes is not None else None,
        )
        if changed is None:
            raise NotFound("master-not-found", f"There is no master {master_id}.")
        self._indexing.reindex_inline(changed, uuid4().hex)
        return changed

    def delete(self, master_id: UUID) -> None:
        """Gone for everybody on return; its vector and bytes follow. Raises NotFound."""
        if not self._stores.metadata.delete_master(master_id):
            raise NotFound("master-not-found", f"There is no master {master_id}.")
        self._wake_worker()

    def original(self, master: Master) -> io.BytesIO:
        """All of its bytes, and certainly its own. Raises NotFound, Unavailable."""
        try:
            return original(self._stores.objects, master)
        except ObjectMissing:
            raise self._missing(master) from None

    def content(self, master: Master, offset: int, length: int) -> Iterator[bytes]:
        try:
            return self._stores.objects.read(master.object_key, offset, length)
        except ObjectMissing:
            raise self._missing(master) from None

    def _missing(self, master: Master) -> Unavailable:
        self.find(master.id)  # deleted since it was looked up: not found
        return Unavailable(
            "object-missing", "The bytes of this master are not in the object store.", 60
        )

    def link(self, master: Master, disposition: str) -> str | None:
        """Where a client gets the bytes without us, if it can."""
        return self._stores.objects.link(master.object_key, master.mime, disposition)

    def thumbnail(self, master: Master, size: int) -> bytes:
        key = (master.sha256, size)
        with self._lock:
            cached = self._thumbnails.get(key)
        if cached is not None:
            return cached
        made = self._vision.thumbnail(self.original(master), size)
        with self._lock:
            if len(made) <= self._thumbnails.maxsize:
                self._thumbnails[key] = made
        return made
