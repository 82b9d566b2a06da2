"""Keeps for a time what is removed from an object store: by mirrors, and by repairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count

from storage.errors import ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks
from storage.protocols import ObjectStore

REMOVED_PREFIX = "removed/"
QUARANTINE_PREFIX = "quarantine/"
_PLACE = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)(-\d+)?/(?P<key>.+)", re.DOTALL)


def today() -> date:
    """Return the day in UTC."""
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class RemovedObject:
    """An object that was removed, and where its bytes are kept."""

    place: str
    key: str  # under which it was stored
    day: date
    size: int  # bytes


class RestoreRefused(Exception):
    """The object cannot go back to its key; the message says why."""


class RemovedObjects:
    """Moves objects to `PREFIX DATE/KEY`, and back. Every method may raise StoreUnavailable.

    A copy is durable and verified before the original is deleted. So a process that is killed
    leaves one of them or both, and the same call completes the move later.
    """

    def __init__(self, objects: ObjectStore, prefix: str = REMOVED_PREFIX) -> None:
        self._objects = objects
        self._prefix = prefix

    def move(self, key: str) -> bool:
        """Move an object away, and return whether it existed.

        Other bytes that were kept under the same key on the same day stay: `DATE-2/KEY` and so on
        take what comes later.
        """
        digest = self._hash(key)
        if digest is None:
            return False
        day = today()
        for number in count(1):
            place = f"{self._prefix}{day}{'' if number == 1 else f'-{number}'}/{key}"
            present = self._hash(place)
            if present is None:
                self._copy(key, place, digest)
            if present in (None, digest):
                break
        self._objects.delete(key)
        return True

    def restore(self, removed: RemovedObject) -> None:
        """Move an object back to its key. Raises RestoreRefused, ObjectMissing."""
        digest = self._hash(removed.place)
        if digest is None:
            raise ObjectMissing(removed.place)
        present = self._hash(removed.key)
        if present is None:
            self._copy(removed.place, removed.key, digest)
        elif present != digest:
            raise RestoreRefused("there are other bytes under its key, and they stay")
        self._objects.delete(removed.place)

    def list(self) -> Iterator[RemovedObject]:
        """Yield everything that is kept, in no particular order."""
        for info in self._objects.list(self._prefix):
            match = _PLACE.fullmatch(info.key.removeprefix(self._prefix))
            with suppress(ValueError):  # a date that this program did not choose
                if match:
                    day = date.fromisoformat(match["day"])
                    yield RemovedObject(info.key, match["key"], day, info.size)

    def iterate_expired(self, days: int) -> Iterator[RemovedObject]:
        """Delete what was removed more than ``days`` days ago, and yield each of it."""
        limit = today() - timedelta(days=days)
        for removed in self.list():
            if removed.day < limit:
                self._objects.delete(removed.place)
                yield removed

    def expire(self, days: int) -> int:
        """Delete what was removed more than ``days`` days ago, and return the number of objects."""
        return sum(1 for _ in self.iterate_expired(days))

    def _copy(self, key: str, copy: str, digest: bytes) -> None:
        self._objects.copy(key, copy)
        if self._hash(copy) != digest:
            raise StoreUnavailable("object", f"the copy of {key} has other bytes")

    def _hash(self, key: str) -> bytes | None:
        try:
            return sha256_of_chunks(self._objects.read(key))
        except ObjectMissing:
            return None
