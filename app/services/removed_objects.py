"""Keeps for a time what a mirror removes from its target's object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import BinaryIO, cast

from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import ObjectStore

REMOVED_PREFIX = "removed/"
_SPOOL = 8 * 1024 * 1024  # bytes of an object that are held in memory


class RemovedObjects:
    """Moves objects to `removed/DATE/KEY`. Every method may raise StoreUnavailable."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def move(self, key: str) -> None:
        """Move an object; do nothing if it does not exist.

        Its copy is durable before the object is deleted, so a crash leaves one of them or both.
        """
        with suppress(ObjectMissing):
            self._copy(key, f"{REMOVED_PREFIX}{datetime.now(UTC).date()}/{key}")
        self._objects.delete(key)

    def expire(self, days: int) -> int:
        """Delete what was removed more than ``days`` days ago, and return the number of objects."""
        limit = datetime.now(UTC).date() - timedelta(days=days)
        expired = [key for key, day in self._list_dated() if day < limit]
        for key in expired:
            self._objects.delete(key)
        return len(expired)

    def _copy(self, key: str, copy: str) -> None:
        with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
            file = cast("BinaryIO", spooled)
            file.writelines(self._objects.read(key))
            size = file.tell()
            file.seek(0)
            self._objects.put(copy, file, size, "application/octet-stream", key.rpartition("/")[2])
        if self._objects.stat(copy).size != size:
            raise StoreUnavailable("object", f"the copy of {key} has another size")

    def _list_dated(self) -> Iterator[tuple[str, date]]:
        for info in self._objects.list(REMOVED_PREFIX):
            with suppress(ValueError, IndexError):  # a name that this program did not choose
                yield info.key, date.fromisoformat(info.key.split("/")[1])
