"""Copies every master into other stores, with its id, bytes and vectors: to move, to back up, to restore."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, cast
from uuid import UUID, uuid4

import numpy as np

from app.services.deletion import Deletion
from app.services.loaded_models import weights_key
from models.weights_file import version_of
from storage.errors import CollectionExists, MasterExists, ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks, sha256_of_file
from storage.protocols import Stores
from storage.records import Collection, Master, MasterRecord, MasterState, VectorRecord

_BATCH = 100
_SPOOL = 8 * 1024 * 1024  # bytes of an original held in memory
_UNREADABLE = 3  # originals in a row that the store fails to give: then it is the store
_DRAIN_PAUSE = 0.5  # seconds


class CopyingRefused(Exception):
    """The target cannot take the masters; the message says why and what to do."""


@dataclass
class Tally:
    copied: int = 0
    there_already: int = 0
    changed: int = 0  # there already, with another name or other attributes
    failed: int = 0
    only_there: int = 0  # masters of the target that the source does not have (any more)
    to_embed: int = 0  # of those copied, without a vector


class Copying:
    """A master's row is written last, after its bytes and vector were read back and found right.

    So a row in the target says that its master is wholly there, and an interrupted run goes on where it was. The source may be
    in use meanwhile: a master deleted before its turn is left out.
    """

    def __init__(
        self,
        source: Stores,
        target: Stores,
        *,
        jobs: int,
        lease: float,
        fail: Callable[[str, str], None],
        vectors: bool = True,
        mirror: bool = False,
        verify: bool = False,
    ) -> None:
        """``fail`` hears of what cannot be copied, and why; the rest is. Without ``vectors``, those are made anew.

        ``mirror`` makes the target as the source is: masters that changed are changed, those deleted are deleted. Nobody else
        may write to it. ``verify`` reads the bytes that are there already, too.
        """
        self._source = source
        self._target = target
        self._jobs = jobs
        self._lease = lease
        self._fail = fail
        self._vectors = vectors
        self._mirror = mirror
        self._verify = verify
        self._unreadable = 0  # in a row
        self._version: str | None = None
        self._tally = Tally()

    def drain(self, stores: Stores, waiting: Callable[[int], None]) -> None:
        """Carry out the deletions of stores that nobody uses, and give up broken uploads; ``waiting`` hears how many are left.

        What a killed process left leased is waited for until the lease has run out.
        """
        deletion, owner = Deletion(stores, self._lease), f"copying-{uuid4().hex}"
        while left := stores.metadata.count_unfinished():
            waiting(left)
            if not deletion.step(owner):
                time.sleep(_DRAIN_PAUSE)

    def total(self) -> int:
        """Masters to copy."""
        return sum(count for _, count in self._source.metadata.list_collections())

    def run(self, advance: Callable[[int], None]) -> Tally:
        """Copy what the target lacks; ``advance`` hears of progress. Raises CopyingRefused, StoreUnavailable."""
        if self._mirror:
            self._check_kinship()
        self._take_over_model()
        if self._mirror:
            self._drop_collections()
            self._drop_masters()  # before the copying: bytes that were deleted and put in again have another id now
        for collection, _ in self._source.metadata.list_collections():
            self._take_over(collection)
            known, after = 0, None
            with ThreadPoolExecutor(self._jobs) as pool:
                while batch := self._source.metadata.list_records(after, _BATCH, collection.id):
                    known += self._copy(batch, pool)
                    after = batch[-1].master.id
                    advance(len(batch))
            if not self._mirror:
                self._tally.only_there += (
                    self._target.metadata.count_masters(collection.id, None) - known
                )
        if self._mirror:
            self._drop_masters()
        return self._tally

    def _check_kinship(self) -> None:
        """A mirror of another installation would lose all that it holds."""
        there = {collection.id for collection, _ in self._target.metadata.list_collections()}
        if there and there.isdisjoint(
            collection.id for collection, _ in self._source.metadata.list_collections()
        ):
            raise CopyingRefused(
                "it is the backup of another installation: none of its collections is in this one. Name another directory,"
                " or see why the installation is empty"
            )

    def _take_over_model(self) -> None:
        """The active version alone: another one that is being built or kept can be built again."""
        self._version = self._source.registry.find_active()
        if self._version is None:
            return
        if self._mirror or not any(count for _, count in self._target.metadata.list_collections()):
            self._target.registry.replace_active(self._version)
        active = self._target.registry.register_active(self._version)
        if active != self._version:
            raise CopyingRefused(
                f"there are vectors of the model {active} already, and these are of {self._version}: copy into empty stores"
            )
        self._copy_weights(self._version)

    def _copy_weights(self, version: str) -> None:
        """Those that come with the program are not always in the object store."""
        key = weights_key(version)
        with suppress(ObjectMissing):
            content = b"".join(self._source.objects.read(key))
            if version_of(content) != version:
                self._failed(
                    f"the weights of {version}",
                    "they are damaged: `lookalike reembed start` with the right file mends them",
                )
                return
            with suppress(ObjectMissing):
                if b"".join(self._target.objects.read(key)) == content:
                    return
            self._target.objects.put(
                key,
                io.BytesIO(content),
                len(content),
                "application/octet-stream",
                "weights.safetensors",
            )

    def _take_over(self, collection: Collection) -> None:
        target = self._target.metadata
        try:
            target.import_collection(collection)
        except CollectionExists:  # a service that ran there made its default collection
            found = target.find_collection(collection.name)
            if found is not None and target.count_masters(found.id, None):
                raise CopyingRefused(
                    f"there is a collection {collection.name} already, with other masters in it: delete it there,"
                    " or copy into empty stores"
                ) from None
            target.delete_collection(collection.name)
            try:
                target.import_collection(collection)
            except CollectionExists:
                raise CopyingRefused(
                    f"the collection {collection.name} is in use there or being deleted: stop the service there,"
                    " let a worker finish, and try again"
                ) from None

    def _copy(self, batch: Sequence[MasterRecord], pool: ThreadPoolExecutor) -> int:
        """The number of the batch that is in the target now."""
        there = self._target.metadata.find_records([record.master.id for record in batch])
        missing, changed = [], []
        for record in map(self._wanted, batch):
            known = there.get(record.master.id)
            if record.master.state is MasterState.DAMAGED:
                self._failed(
                    _named(record.master), "it is damaged: put its bytes in again, or delete it"
                )
            elif known is None or (self._mirror and not self._is_whole(known.master)):
                missing.append(record)
            elif known.master == record.master and (
                not self._mirror or self._has_vectors_of(known, record)
            ):
                self._tally.there_already += 1
            elif self._mirror:
                changed.append(record)
            else:
                self._failed(
                    _named(record.master),
                    "it was changed or deleted, here or there, since it was copied",
                )
        problems = list(pool.map(self._copy_object, [record.master for record in missing]))
        sound = [
            record for record, problem in zip(missing, problems, strict=True) if problem is None
        ]
        for record, problem in zip(missing, problems, strict=True):
            if problem:
                self._failed(_named(record.master), problem)
        whole = self._copy_vectors(sound + changed)
        self._adopt(whole)
        new = sum(record.master.id not in there for record in whole)
        self._tally.copied += new
        self._tally.changed += len(whole) - new
        self._tally.to_embed += sum(None in record.indexed.values() for record in whole)
        return len(there) + new

    def _adopt(self, records: Sequence[MasterRecord]) -> None:
        try:
            self._target.metadata.import_records(records)
        except MasterExists:
            if not self._mirror:
                raise CopyingRefused(
                    "some of the same images were put in there meanwhile: delete these there, and try again"
                ) from None
            self._drop_masters()  # copied, then deleted and put in again under another id
            self._target.metadata.import_records(records)

    def _is_whole(self, master: Master) -> bool:
        """Whether the target has the bytes, by their size, or by what they are if everything is verified."""
        if master.state is not MasterState.STORED:
            return False
        try:
            if self._verify:
                return self._digest(self._target, master) == master.sha256
            return self._target.objects.stat(master.object_key).size == master.size
        except ObjectMissing:
            return False

    def _wanted(self, record: MasterRecord) -> MasterRecord:
        """What the target is to know of it: the active version's embedding alone."""
        version = self._version
        if version is None:
            return replace(record, indexed={})
        return replace(
            record, indexed={version: record.indexed.get(version) if self._vectors else None}
        )

    def _has_vectors_of(self, known: MasterRecord, record: MasterRecord) -> bool:
        return set(known.indexed) == set(record.indexed) and (
            not self._vectors or known.indexed == record.indexed
        )

    def _failed(self, what: str, reason: str) -> None:
        self._tally.failed += 1
        self._fail(what, reason)

    def _copy_object(self, master: Master) -> str | None:
        """What is wrong; None if the target now has the bytes that were once put in, empty if the master was deleted."""
        with tempfile.SpooledTemporaryFile(_SPOOL) as spooled:
            file = cast("BinaryIO", spooled)
            try:
                file.writelines(self._source.objects.read(master.object_key))
            except ObjectMissing:
                return (
                    "its bytes are missing" if self._source.metadata.find_master(master.id) else ""
                )
            except StoreUnavailable as error:  # this one, or the whole store
                self._unreadable += 1
                if self._unreadable == _UNREADABLE:
                    raise
                return f"its bytes cannot be read: {error}"
            self._unreadable = 0
            if sha256_of_file(file) != master.sha256:
                return "its bytes are not those that were put in"
            file.seek(0)
            self._target.objects.put(master.object_key, file, master.size, master.mime, master.name)
        same = self._digest(self._target, master) == master.sha256
        return None if same else "other bytes came back from the object store"

    @staticmethod
    def _digest(stores: Stores, master: Master) -> bytes:
        return sha256_of_chunks(stores.objects.read(master.object_key))

    def _copy_vectors(self, records: Sequence[MasterRecord]) -> list[MasterRecord]:
        """The records that are whole; an embedding without a vector becomes pending, for a worker to make."""
        whole = {record.master.id: record for record in records}
        if not self._vectors or self._version is None:
            return list(whole.values())
        vectors = self._source.vectors.fetch_vectors(self._version, list(whole))
        for id_, record in whole.items():
            vector = vectors.get(id_)
            if (
                vector is None or vector.revision != record.master.revision
            ):  # it changes in this moment
                vectors.pop(id_, None)
                whole[id_] = replace(record, indexed={self._version: None})
        sent = list(vectors.values())
        self._target.vectors.upsert(self._version, sent)
        came = self._target.vectors.fetch_vectors(self._version, list(vectors))
        for vector in sent:
            if not _same(vector, came.get(vector.master_id)):
                self._failed(
                    _named(whole.pop(vector.master_id).master),
                    "another vector came back from the vector store",
                )
        return list(whole.values())

    # a mirror forgets what its original forgot

    def _drop_collections(self) -> None:
        live = {collection for collection, _ in self._source.metadata.list_collections()}
        for collection, count in self._target.metadata.list_collections():
            if collection not in live:
                self._tally.only_there += count
                self._target.metadata.delete_collection(collection.name)

    def _drop_masters(self) -> None:
        for ids in self._ids_there():
            known = self._source.metadata.find_records(ids)
            kept = (MasterState.STORED, MasterState.DAMAGED)
            for id_ in ids:
                if id_ not in known or known[id_].master.state not in kept:
                    self._tally.only_there += 1
                    self._target.metadata.delete_master(id_)

    def _ids_there(self) -> Iterator[list[UUID]]:
        after = None
        while batch := self._target.metadata.list_records(after, _BATCH):
            after = batch[-1].master.id
            yield [record.master.id for record in batch]


def _named(master: Master) -> str:
    return f"{master.id} ({master.name})"


def _same(sent: VectorRecord, came: VectorRecord | None) -> bool:
    return (
        came is not None
        and np.allclose(sent.vector, came.vector, atol=1e-6)
        and (sent.collection_id, sent.attributes, sent.revision)
        == (came.collection_id, came.attributes, came.revision)
    )
