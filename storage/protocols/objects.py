"""The object store: the bytes of masters and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from storage.records import ObjectInfo


class ObjectStore(Protocol):
    """Bytes under keys, which are relative paths with forward slashes.

    Every method may raise StoreUnavailable; the same call may then succeed later.
    """

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None:
        """Store ``size`` bytes from the file's position under the key, durably.

        An object under the same key is replaced as a whole: readers get the old bytes or the new
        ones. If the file has fewer bytes, or reading it raises, nothing is stored and the old
        object stays. ``content_type`` and ``name`` are metadata that a store may ignore.
        """

    def create(self, key: str, content: bytes, content_type: str) -> bool:
        """Store the bytes durably unless the key has an object, and return whether they were.

        Of several callers at the same time, one stores its bytes. An S3 server that knows no
        conditional writes may let the last one replace the others. After a lost answer the method
        may return False although it stored the bytes; reading tells.
        """

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return chunks of the object's bytes from ``offset``.

        ``length`` bounds the number of bytes; None reads to the end, and 0 yields no chunk. A range
        beyond the end is cut. Raises ObjectMissing before it returns.
        """

    def stat(self, key: str) -> ObjectInfo:
        """Return the size in bytes and the time of the last change. Raises ObjectMissing."""

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        """Return a URL that gives anybody the object for five minutes, with these response headers.

        Returns None if clients cannot reach the store.
        """

    def copy(self, key: str, target: str) -> None:
        """Copy the bytes and metadata of an object to another key, durably.

        An object under ``target`` is replaced as a whole. If the copy fails, nothing changes.
        Raises ObjectMissing.
        """

    def delete(self, key: str) -> None:
        """Delete the object; do nothing if the key does not exist."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with the prefix, in no particular order.

        The prefix consists of whole path segments, or is empty, which lists everything. Objects
        that are added or deleted meanwhile may or may not be among them. Unfinished uploads never
        are.
        """

    def abort_unfinished(self, prefix: str, before: float) -> int:
        """Remove what is left of uploads that never ended, and return their number.

        Only uploads to keys that start with the prefix, and that began before this time in seconds
        since 1970, are removed.
        """

    def ping(self) -> None:
        """Raise StoreUnavailable if the store does not answer or cannot be written to."""

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards."""
