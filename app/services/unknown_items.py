"""Finds the objects and vectors that no row of the metadata database explains."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar
from uuid import UUID

from storage.errors import ObjectMissing
from storage.protocols import Stores
from storage.records import ObjectInfo

_BATCH = 200
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MASTER_KEY = re.compile(
    rf"masters/[a-z0-9-]+-{_UUID}"
    rf"/(?P<start>[0-9a-f]{{2}})/(?P=start)[0-9a-f]{{62}}/(?P<id>{_UUID})\.[a-z0-9]+"
)
# No scrub touches these. An encoder that was added but not started has no row.
_OTHER_KEY = re.compile(
    r"installation\.json|(removed|quarantine|catalogue)/.+"
    r"|models/[^/]+/(weights\.safetensors|encoder\.bundle)",
    re.DOTALL,
)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class CheckedObjects:
    """What was found in a batch of objects."""

    count: int
    unknown: list[str] = field(default_factory=list)  # keys of originals without a row
    foreign: list[str] = field(default_factory=list)  # keys under which the service stores nothing


@dataclass(frozen=True)
class CheckedVectors:
    """What was found in a batch of vectors of one version."""

    version: str
    count: int
    unknown: list[UUID] = field(default_factory=list)  # ids without a row


class UnknownItems:
    """Compares the bucket and the vectors with the rows, a batch at a time.

    Each finding is checked a second time before it counts, because the stores change meanwhile.
    """

    def __init__(self, stores: Stores, grace: float) -> None:
        """``grace`` is in seconds: a younger object may belong to an upload in progress."""
        self._stores = stores
        self._grace = grace

    def check_objects(self, prefix: str = "") -> Iterator[CheckedObjects]:
        """Yield what is unknown among all objects under a prefix. Raises StoreUnavailable."""
        for batch in _split_into_batches(self._stores.objects.list(prefix), _BATCH):
            yield self._check_batch(batch)

    def _check_batch(self, batch: Sequence[ObjectInfo]) -> CheckedObjects:
        ids = {info.key: _parse_master_id(info.key) for info in batch}
        records = self._stores.metadata.find_records([id_ for id_ in ids.values() if id_])
        suspects: dict[str, UUID] = {}
        foreign: list[str] = []
        for info in batch:
            id_ = ids[info.key]
            if _OTHER_KEY.fullmatch(info.key):
                continue
            if id_ is None or (id_ in records and records[id_].master.object_key != info.key):
                foreign.append(info.key)
            elif id_ not in records and time.time() - info.modified >= self._grace:
                suspects[info.key] = id_
        # A deletion removes the object before the row, so a listed object may be gone by now.
        known = self._stores.metadata.find_records(list(suspects.values())) if suspects else {}
        unknown = [
            key for key, id_ in suspects.items() if id_ not in known and self._object_exists(key)
        ]
        return CheckedObjects(len(batch), unknown, foreign)

    def _object_exists(self, key: str) -> bool:
        try:
            self._stores.objects.stat(key)
        except ObjectMissing:
            return False
        return True

    def check_vectors(self) -> Iterator[CheckedVectors]:
        """Yield what is unknown among the vectors of all versions. Raises StoreUnavailable."""
        metadata, vectors = self._stores.metadata, self._stores.vectors
        for version in vectors.versions():
            for ids in vectors.iterate_ids(version):
                for batch in _split_into_batches(ids, _BATCH):
                    records = metadata.find_records(batch)
                    suspects = [id_ for id_ in batch if id_ not in records]
                    if suspects:
                        records = metadata.find_records(suspects)
                        present = vectors.fetch_vectors(version, suspects)
                        suspects = [each for each in suspects if each not in records]
                        suspects = [each for each in suspects if each in present]
                    yield CheckedVectors(version, len(batch), suspects)


def _parse_master_id(key: str) -> UUID | None:
    """Return the master's id in a key of the form Master.object_key; None for other keys."""
    match = _MASTER_KEY.fullmatch(key)
    return UUID(match["id"]) if match else None


def _split_into_batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
