"""Checks the three stores against each other, by ids and never by counts, and repairs what is safe to repair."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from app.metrics import Metrics
from storage.errors import ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks
from storage.protocols import Stores
from storage.records import MasterRecord, MasterState, ModelState, ObjectInfo, VectorRecord

_BATCH = 200
_SAMPLE_DAYS = 30  # every object is read once in so many daily runs
_EXAMPLES = 20  # of each kind, in the report
_UNREADABLE = 3  # objects in a row that the store fails to give: then it is the store
_DAY = 86_400  # seconds
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(
    rf"masters/[a-z0-9-]+-{_UUID}/(?P<aa>[0-9a-f]{{2}})/(?P=aa)[0-9a-f]{{62}}/(?P<id>{_UUID})\.[a-z0-9]+"
)
_WEIGHTS = re.compile(r"models/[^/]+/weights\.safetensors")
_Item = TypeVar("_Item")

KINDS = {
    "object-missing": "a master whose bytes are gone",
    "object-wrong": "a master whose bytes are not those that were put in",
    "object-unreadable": "a master whose bytes the store fails to give; look at the disk",
    "object-unknown": "an object of no master",
    "object-foreign": "an object that is where none of ours belongs; look yourself",
    "vector-missing": "a master without its vector",
    "vector-outdated": "a master whose vector has other attributes than it",
    "vector-unknown": "a vector of no master",
    "healed": "a damaged master whose bytes are right again",
}


@dataclass
class Report:
    """What a run looked at, found, and repaired; ids and keys of the first few of each kind."""

    repair: bool
    masters: int = 0
    hashed: int = 0
    objects: int = 0
    vectors: int = 0
    waiting: int = 0  # embeddings that the worker has still to make
    seconds: float = 0.0
    found: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Nothing was found."""
        return not self.found

    @property
    def looked_at(self) -> int:
        return self.masters + self.objects + self.vectors

    def add(self, kind: str, what: object, *, repaired: bool) -> None:
        self.found[kind] = self.found.get(kind, 0) + 1
        if repaired:
            self.repaired[kind] = self.repaired.get(kind, 0) + 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < _EXAMPLES:
            shown.append(str(what))

    def as_json(self) -> dict[str, Any]:
        return vars(self) | {"seconds": round(self.seconds, 1), "clean": self.clean}


class Scrub:
    """Safe beside uploads, deletions and searches: each finding is looked at again before it counts."""

    def __init__(self, stores: Stores, metrics: Metrics, *, grace: float) -> None:
        """``grace`` in seconds: an object younger than that may belong to an upload under way."""
        self._stores = stores
        self._metrics = metrics
        self._grace = grace
        self._unreadable = 0  # in a row

    def total(self) -> int:
        """About how much there is to look at: masters, objects, vectors."""
        masters = sum(count for _, count in self._stores.metadata.list_collections())
        return (
            masters
            + masters
            + sum(
                self._stores.vectors.count(version) for version in self._stores.vectors.versions()
            )
        )

    def run(self, *, repair: bool, full: bool) -> Iterator[Report]:
        """The report so far after each batch, so that whoever asks may pause or stop; the last one is whole.

        ``full`` reads every object, else a thirtieth of them, another one each day. Raises StoreUnavailable.
        """
        report, start = Report(repair), time.monotonic()
        today = int(time.time() // _DAY) % _SAMPLE_DAYS
        steps = (
            self._masters(report, lambda id_: full or id_.int % _SAMPLE_DAYS == today),
            self._objects(report),
            self._vectors(report),
        )
        for step in steps:
            for _ in step:
                report.seconds = time.monotonic() - start
                yield report
        report.seconds = time.monotonic() - start
        report.waiting = self._stores.metadata.count_pending_embeddings()
        for kind in KINDS:
            self._metrics.scrub_findings.labels(kind).set(report.found.get(kind, 0))
        self._metrics.scrub_ended.set_to_current_time()
        yield report

    def run_vectors(self, version: str) -> Iterator[tuple[Report, list[MasterRecord]]]:
        """Check only that every master has its vector of one version, and repair nothing: the report so far, each batch."""
        report, after = Report(repair=False), None
        while batch := self._stores.metadata.list_records(after, _BATCH):
            self._check_vectors(batch, report, [version])
            report.masters += len(batch)
            after = batch[-1].master.id
            yield report, batch

    def events(self, *, repair: bool, full: bool) -> Iterator[dict[str, Any]]:
        """A run for somebody who watches: how far it is, again and again, and at last the report."""
        total, report = self.total(), Report(repair)
        for report in self.run(repair=repair, full=full):
            yield {"looked_at": report.looked_at, "total": total}
        yield {"report": report.as_json()}

    # rows -> objects, rows -> vectors

    def _masters(self, report: Report, is_read: Callable[[UUID], bool]) -> Iterator[None]:
        after: UUID | None = None
        while batch := self._stores.metadata.list_records(after, _BATCH):
            for record in batch:
                self._check_object(record, report, read=is_read(record.master.id))
            self._check_vectors(batch, report, self._versions())
            report.masters += len(batch)
            after = batch[-1].master.id
            yield

    def _check_object(self, record: MasterRecord, report: Report, *, read: bool) -> None:
        metadata, master = self._stores.metadata, record.master
        damaged = master.state is MasterState.DAMAGED
        read = read or damaged
        problem = self._object_problem(record, report, read=read)
        if damaged and not problem:
            report.add(
                "healed", master.id, repaired=report.repair and metadata.restore_damaged(master.id)
            )
        elif damaged:
            report.add(problem, master.id, repaired=report.repair)  # it is marked already
        elif problem == "object-unreadable":
            report.add(problem, master.id, repaired=False)
        elif (
            problem
            and self._is_stored(master.id)
            and self._object_problem(record, report, read=read) == problem
        ):
            report.add(
                problem, master.id, repaired=report.repair and metadata.mark_damaged(master.id)
            )

    def _object_problem(self, record: MasterRecord, report: Report, *, read: bool) -> str:
        master = record.master
        try:
            if self._stores.objects.stat(master.object_key).size != master.size:
                return "object-wrong"
            if read:
                report.hashed += 1
                chunks = self._stores.objects.read(master.object_key)
                if sha256_of_chunks(chunks) != master.sha256:
                    return "object-wrong"
        except ObjectMissing:
            return "object-missing"
        except StoreUnavailable:  # this one, or the whole store
            self._unreadable += 1
            if self._unreadable == _UNREADABLE:
                raise
            return "object-unreadable"
        self._unreadable = 0
        return ""

    def _is_stored(self, master_id: UUID) -> bool:
        return self._stores.metadata.find_master(master_id) is not None

    def _check_vectors(
        self, batch: Sequence[MasterRecord], report: Report, versions: Sequence[str]
    ) -> None:
        for record, version, problem in self._vector_problems(batch, versions):
            fresh = self._known(record.master.id)
            if (
                fresh is None
                or not list(self._vector_problems([fresh], [version]))
                or self._known(fresh.master.id) != fresh
            ):
                continue
            seen = fresh.indexed.get(version)
            repaired = report.repair and self._stores.metadata.requeue_embedding(
                fresh.master.id, version, seen
            )
            report.add(problem, fresh.master.id, repaired=repaired)

    def _vector_problems(
        self, batch: Sequence[MasterRecord], versions: Sequence[str]
    ) -> Iterator[tuple[MasterRecord, str, str]]:
        """Those of stored masters; an embedding that is pending is the worker's, and no problem."""
        stored = [record for record in batch if record.master.state is MasterState.STORED]
        for version in versions:
            done = [record for record in stored if record.indexed.get(version, 0) is not None]
            vectors = self._stores.vectors.fetch_vectors(
                version, [record.master.id for record in done]
            )
            for record in done:
                vector = vectors.get(record.master.id)
                if vector is None:
                    yield record, version, "vector-missing"
                elif not _agrees(record, vector):
                    yield record, version, "vector-outdated"

    def _known(self, master_id: UUID) -> MasterRecord | None:
        return self._stores.metadata.find_records([master_id]).get(master_id)

    def _versions(self) -> list[str]:
        """Those that every master must have a vector of; one that is being built may still lack embeddings."""
        complete = (ModelState.ACTIVE, ModelState.PREVIOUS)
        return [
            model.id for model in self._stores.registry.list_models() if model.state in complete
        ]

    # objects -> rows

    def _objects(self, report: Report) -> Iterator[None]:
        for batch in _batches(self._stores.objects.list(""), _BATCH):
            ids = {info.key: _id_of(info.key) for info in batch}
            known = self._stores.metadata.find_records(
                [id_ for id_ in ids.values() if id_ is not None]
            )
            for info in batch:
                id_ = ids[info.key]
                if _WEIGHTS.fullmatch(info.key):
                    continue  # a few, and a model that is not started yet has no row
                if id_ is None or (id_ in known and known[id_].master.object_key != info.key):
                    report.add(
                        "object-foreign", info.key, repaired=False
                    )  # never removed: who knows whose only copy it is
                elif id_ not in known and time.time() - info.modified >= self._grace:
                    self._unknown_object(info, id_, report)
            report.objects += len(batch)
            yield

    def _unknown_object(self, info: ObjectInfo, id_: UUID, report: Report) -> None:
        if self._known(id_) or not self._exists(
            info.key
        ):  # a row goes after its object: what was listed may be deleted by now
            return
        if report.repair:
            self._stores.objects.delete(info.key)
        report.add("object-unknown", info.key, repaired=report.repair)

    def _exists(self, key: str) -> bool:
        try:
            self._stores.objects.stat(key)
        except ObjectMissing:
            return False
        return True

    # vectors -> rows

    def _vectors(self, report: Report) -> Iterator[None]:
        for version in self._stores.vectors.versions():
            for ids in self._stores.vectors.iterate_ids(version):
                for some in _batches(ids, _BATCH):
                    known = self._stores.metadata.find_records(some)
                    for id_ in some:
                        if id_ not in known:
                            self._unknown_vector(version, id_, report)
                    report.vectors += len(some)
                    yield

    def _unknown_vector(self, version: str, id_: UUID, report: Report) -> None:
        if self._known(id_) or not self._stores.vectors.fetch_vectors(
            version, [id_]
        ):  # as with objects
            return
        if report.repair:
            self._stores.vectors.delete(version, [id_])
        report.add("vector-unknown", id_, repaired=report.repair)


def _agrees(record: MasterRecord, vector: VectorRecord) -> bool:
    master = record.master
    ours = (master.collection_id, master.attributes, master.revision)
    return (vector.collection_id, vector.attributes, vector.revision) == ours


def _id_of(key: str) -> UUID | None:
    """The master whose object has such a key (Master.object_key); None if it is not a key of ours."""
    found = _KEY.fullmatch(key)
    return UUID(found["id"]) if found else None


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
