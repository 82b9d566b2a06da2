"""Reads, changes and deletes masters, with their bytes and thumbnails."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from uuid import UUID, uuid4

from cachetools import LRUCache

from app.errors import InvalidInput, NotFound, Outdated, Unavailable
from app.logs import log
from app.services.collections import Collections
from app.services.indexing import Indexing
from app.services.names import clean_name
from app.services.originals import OriginalDamaged, is_intact, read_blocks, read_original
from app.services.vision import Vision
from storage.attributes import InvalidAttributes, clean_attributes
from storage.errors import MasterChanged, ObjectMissing, StoreUnavailable
from storage.filters import Filter
from storage.list_records import Months, Page, Position
from storage.protocols import Stores
from storage.records import Attributes, Master
from storage.sorting import NEWEST_FIRST, Sort


class Masters:
    """The stored masters. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        collections: Collections,
        vision: Vision,
        indexing: Indexing,
        cache_bytes: int,
        wake_worker: Callable[[], None],
    ) -> None:
        """``cache_bytes`` bounds the thumbnails in memory.

        ``wake_worker`` is called when a deleted master is left to the worker.
        """
        self._stores = stores
        self._collections = collections
        self._vision = vision
        self._indexing = indexing
        self._wake_worker = wake_worker
        self._thumbnails: LRUCache[tuple[bytes, int], bytes] = LRUCache(
            max(1, cache_bytes), getsizeof=len
        )
        self._lock = threading.Lock()

    def find_master(self, master_id: UUID) -> Master:
        """Return the master. Raises NotFound."""
        master = self._stores.metadata.find_master(master_id)
        if master is None:
            raise _master_not_found(master_id)
        return master

    def list_masters(
        self,
        collection_name: str,
        filter: Filter | None,
        limit: int,
        after: Position | None,
        offset: int = 0,
        sort: Sort = NEWEST_FIRST,
    ) -> Page:
        """Return a page of at most ``limit`` masters, newest first unless ``sort`` says otherwise.

        The page begins ``offset`` masters behind the position ``after``, or behind the start.
        Raises InvalidInput, NotFound.
        """
        collection = self._collections.find_collection(collection_name)
        return self._stores.metadata.list_masters(collection.id, filter, limit, after, offset, sort)

    def count_months(self, collection_name: str, filter: Filter | None) -> Months:
        """Return how many masters that match were taken in each month. Raises NotFound."""
        collection = self._collections.find_collection(collection_name)
        return self._stores.metadata.count_months(collection.id, filter)

    def update_master(
        self,
        master_id: UUID,
        name: str | None,
        attributes: object | None,
        revisions: Container[int] | None = None,
    ) -> Master:
        """Change the name, and replace all attributes; None leaves a value as it is.

        Raises InvalidInput, NotFound, and Outdated if the master has none of the ``revisions``.
        """
        try:
            updated = self._stores.metadata.update_master(
                master_id,
                name=_validate_name(name) if name is not None else None,
                attributes=validate_attributes(attributes) if attributes is not None else None,
                revisions=revisions,
            )
        except MasterChanged as error:
            raise _outdated(master_id, error) from None
        if updated is None:
            raise _master_not_found(master_id)
        self._indexing.reindex_inline(updated, uuid4().hex)
        return updated

    def delete_master(self, master_id: UUID, revisions: Container[int] | None = None) -> None:
        """Delete a master: no request finds it any more on return.

        The worker removes its vectors and bytes. Raises NotFound, and Outdated if the master has
        none of the ``revisions``.
        """
        try:
            found = self._stores.metadata.delete_master(master_id, revisions)
        except MasterChanged as error:
            raise _outdated(master_id, error) from None
        if not found:
            raise _master_not_found(master_id)
        self._wake_worker()

    def read_verified(self, master: Master) -> io.BytesIO:
        """Return the original's bytes, with a verified hash. Raises NotFound, Unavailable."""
        with self._reading(master):
            return read_original(self._stores.objects, master)

    def read_content(self, master: Master, offset: int, length: int) -> Iterator[bytes]:
        """Return blocks of ``length`` bytes of the original from ``offset``, as in ``read_blocks``.

        Raises NotFound and Unavailable, also between two blocks: the blocks before it are then part
        of a damaged original.
        """
        blocks = self._read_blocks(master, offset, offset + length)
        return chain([next(blocks)], blocks)  # what can fail at once fails before the first block

    def _read_blocks(self, master: Master, start: int, stop: int) -> Iterator[bytes]:
        with self._reading(master):
            yield from read_blocks(self._stores.objects, master, start, stop)

    @contextmanager
    def _reading(self, master: Master) -> Iterator[None]:
        """Explain why bytes cannot be read, and mark a master whose bytes are damaged."""
        try:
            yield
        except ObjectMissing:
            raise self._object_missing(master) from None
        except OriginalDamaged:
            # An upload that restores the bytes may have replaced them between two blocks.
            if is_intact(self._stores.objects, master):
                raise StoreUnavailable("object", "it returned other bytes than it holds") from None
            with suppress(StoreUnavailable):
                self._stores.metadata.mark_damaged(master.id)
            log.error("an original is damaged", master_id=str(master.id), key=master.object_key)
            raise

    def _object_missing(self, master: Master) -> Unavailable:
        self.find_master(master.id)  # raises NotFound if it was deleted meanwhile
        detail = (
            f"The bytes of the master {master.id} are not in the object store. Upload the image"
            " again after `lookalike scrub --repair` has marked the damage."
        )
        return Unavailable("object-missing", detail, 60)

    def link_content(self, master: Master, disposition: str) -> str | None:
        """Return a URL at which clients get the original from the object store itself.

        ``disposition`` is the value of the header Content-Disposition. None if clients cannot reach
        the object store.
        """
        return self._stores.objects.link(master.object_key, master.mime, disposition)

    def make_thumbnail(self, master: Master, size: int) -> bytes:
        """Return a JPEG of at most ``size`` x ``size`` pixels. Raises NotFound, Unavailable."""
        key = (master.sha256, size)
        with self._lock:
            cached = self._thumbnails.get(key)
        if cached is not None:
            return cached
        thumbnail = self._vision.make_thumbnail(partial(self.read_verified, master), size)
        with self._lock:
            if len(thumbnail) <= self._thumbnails.maxsize:
                self._thumbnails[key] = thumbnail
        return thumbnail


def _validate_name(name: str) -> str:
    # An upload's path loses its folders silently. Here a person typed the name, so a cut would
    # surprise.
    if set(name) & set("/\\"):
        raise InvalidInput("invalid-name", "A name cannot contain / or \\. Leave them out.")
    cleaned = clean_name(name)
    if not cleaned:
        raise InvalidInput("invalid-name", "A name needs at least one visible character.")
    return cleaned


def _outdated(master_id: UUID, error: MasterChanged) -> Outdated:
    detail = (
        f"The master {master_id} was changed in the meantime and is now at revision"
        f" {error.revision}. Nothing was done. Get the master again, and repeat the request with"
        " its new ETag."
    )
    return Outdated("precondition-failed", detail)


def _master_not_found(master_id: UUID) -> NotFound:
    detail = f"There is no master {master_id}. It may have been deleted."
    return NotFound("master-not-found", detail)


def validate_attributes(attributes: object) -> Attributes:
    """Return the attributes in the form that is stored. Raises InvalidInput."""
    try:
        return clean_attributes(attributes)
    except InvalidAttributes as error:
        raise InvalidInput("invalid-attributes", str(error)) from None
