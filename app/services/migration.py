"""Copies every master into other stores, with its id, bytes and vectors; nothing is embedded again."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO, cast
from uuid import uuid4

import numpy as np

from app.services.deletion import Deletion
from storage.protocols import (
    Collection,
    CollectionExists,
    Master,
    MasterExists,
    MasterRecord,
    MasterState,
    ObjectMissing,
    Stores,
    VectorRecord,
)

_BATCH = 100
_SPOOL = 8 * 1024 * 1024  # bytes of an original held in memory
_DRAIN_PAUSE = 0.5  # seconds


class MigrationRefused(Exception):
    """The target cannot take the masters; the message says why and what to do."""


@dataclass
class Tally:
    copied: int = 0
    there_already: int = 0
    failed: int = 0
    only_there: int = 0  # masters of the target that the source does not have (any more)


class Migration:
    """A master's row is written last, after its bytes and vectors were read back and found right.

    So a row in the target says that its master is wholly there, and an interrupted run goes on where it was.
    """

    def __init__(self, source: Stores, target: Stores, *, jobs: int, lease: float, fail: Callable[[Master, str], None]) -> None:
        """``fail`` hears of each master that cannot be copied, and why; the others are."""
        self._source = source
        self._target = target
        self._jobs = jobs
        self._lease = lease
        self._fail = fail
        self._tally = Tally()

    def drain(self, waiting: Callable[[int], None]) -> None:
        """Carry out the source's deletions and give up its broken uploads; ``waiting`` hears how many are left.

        What a killed process left leased is waited for until the lease has run out.
        """
        deletion, owner = Deletion(self._source, self._lease), f"migration-{uuid4().hex}"
        while left := self._source.metadata.count_unfinished():
            waiting(left)
            if not deletion.step(owner):
                time.sleep(_DRAIN_PAUSE)

    def total(self) -> int:
        """Masters to copy."""
        return sum(count for _, count in self._source.metadata.list_collections())

    def run(self, advance: Callable[[int], None]) -> Tally:
        """Copy what the target lacks; ``advance`` hears of progress. Raises MigrationRefused, StoreUnavailable."""
        self._take_over_model()
        for collection, _ in self._source.metadata.list_collections():
            self._take_over(collection)
            known, after = 0, None
            with ThreadPoolExecutor(self._jobs) as pool:
                while batch := self._source.metadata.walk_masters(after, _BATCH, collection.id):
                    known += self._copy(batch, pool)
                    after = batch[-1].master.id
                    advance(len(batch))
            self._tally.only_there += self._target.metadata.count_masters(collection.id, None) - known
        return self._tally

    def _take_over_model(self) -> None:
        version = self._source.registry.active()
        if version is None:
            return
        active = self._target.registry.register_active(version)
        if active != version:
            raise MigrationRefused(
                f"the servers hold vectors of the model {active}, this installation of {version}: migrate into empty servers"
            )

    def _take_over(self, collection: Collection) -> None:
        target = self._target.metadata
        try:
            target.adopt_collection(collection)
        except CollectionExists:  # a service that ran there made its default collection
            found = target.find_collection(collection.name)
            if found is not None and target.count_masters(found.id, None):
                raise MigrationRefused(
                    f"the servers have a collection {collection.name} of their own, with masters in it:"
                    " delete it there, or migrate into empty servers"
                ) from None
            target.delete_collection(collection.name)
            try:
                target.adopt_collection(collection)
            except CollectionExists:
                raise MigrationRefused(
                    f"the servers' collection {collection.name} is in use or being deleted: stop the service there,"
                    " let a worker finish, and migrate again"
                ) from None

    def _copy(self, batch: Sequence[MasterRecord], pool: ThreadPoolExecutor) -> int:
        """The number of the batch that is in the target now."""
        there = self._target.metadata.find_masters(batch[0].master.collection_id, [record.master.id for record in batch])
        missing = []
        for record in batch:
            if record.master.state is MasterState.DAMAGED:
                self._failed(record.master, "it is damaged: put its bytes in again, scrub with --repair, or delete it")
            elif record.master.id not in there:
                missing.append(record)
            elif there[record.master.id] == record.master:
                self._tally.there_already += 1
            else:
                self._failed(record.master, "it was changed, here or there, since it was copied")
        problems = list(pool.map(self._copy_object, [record.master for record in missing]))
        for record, problem in zip(missing, problems, strict=True):
            if problem:
                self._failed(record.master, problem)
        whole = self._copy_vectors([record for record, problem in zip(missing, problems, strict=True) if not problem])
        try:
            self._target.metadata.adopt_masters(whole)
        except MasterExists:
            raise MigrationRefused(
                "the servers were given some of the same images meanwhile: delete these there, and migrate again"
            ) from None
        self._tally.copied += len(whole)
        return len(there) + len(whole)

    def _failed(self, master: Master, reason: str) -> None:
        self._tally.failed += 1
        self._fail(master, reason)

    def _copy_object(self, master: Master) -> str:
        """What is wrong; nothing if the target now has the bytes that were once put in."""
        with tempfile.SpooledTemporaryFile(_SPOOL) as file:
            digest = hashlib.sha256()
            try:
                for chunk in self._source.objects.read(master.object_key):
                    digest.update(chunk)
                    file.write(chunk)
            except ObjectMissing:
                return "its bytes are missing"
            if digest.digest() != master.sha256:
                return "its bytes are not those that were put in"
            file.seek(0)
            self._target.objects.put(master.object_key, cast("BinaryIO", file), master.size, master.mime, master.name)
        digest = hashlib.sha256()
        for chunk in self._target.objects.read(master.object_key):
            digest.update(chunk)
        return "" if digest.digest() == master.sha256 else "other bytes came back from the object store"

    def _copy_vectors(self, records: Sequence[MasterRecord]) -> list[MasterRecord]:
        """The records that are whole; an embedding without a vector becomes pending, for a worker to make."""
        whole = {record.master.id: record for record in records}
        for version in sorted({version for record in records for version in record.indexed}):
            vectors = self._source.vectors.get(version, list(whole))
            sent = list(vectors.values())
            self._target.vectors.upsert(version, sent)
            came = self._target.vectors.get(version, list(vectors))
            for vector in sent:
                if not _same(vector, came.get(vector.master_id)):
                    self._failed(whole.pop(vector.master_id).master, "another vector came back from the vector store")
            for id_, record in whole.items():
                if id_ not in vectors and version in record.indexed:
                    whole[id_] = replace(record, indexed=record.indexed | {version: None})
        return list(whole.values())


def _same(sent: VectorRecord, came: VectorRecord | None) -> bool:
    return (
        came is not None
        and np.allclose(sent.vector, came.vector, atol=1e-6)
        and (sent.collection_id, sent.attributes, sent.revision) == (came.collection_id, came.attributes, came.revision)
    )
