"""Checks the three stores against each other, id by id, and repairs what is safe to repair."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from app.metrics import Metrics
from app.services.scrub_report import KINDS, ScrubReport
from storage.errors import ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks
from storage.protocols import Stores
from storage.records import (
    Master,
    MasterRecord,
    MasterState,
    ModelState,
    ObjectInfo,
    VectorRecord,
)

_BATCH = 200
_SAMPLE_DAYS = 30  # a scrub that is not full reads this share of the objects, others each day
_MAX_UNREADABLE = 3  # objects in a row that cannot be read before the store counts as down
_DAY = 86_400  # seconds
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MASTER_KEY = re.compile(
    rf"masters/[a-z0-9-]+-{_UUID}"
    rf"/(?P<start>[0-9a-f]{{2}})/(?P=start)[0-9a-f]{{62}}/(?P<id>{_UUID})\.[a-z0-9]+"
)
_OTHER_KEY = re.compile(r"installation\.json|(removed|catalogue)/.+")  # no scrub touches these
_ENCODER_KEY = re.compile(r"models/[^/]+/(weights\.safetensors|encoder\.bundle)")
_Item = TypeVar("_Item")


class Scrub:
    """Runs scrubs, which are safe beside uploads, deletions and searches.

    Each finding is checked a second time before it counts, because the stores change meanwhile.
    """

    def __init__(self, stores: Stores, metrics: Metrics, *, grace: float) -> None:
        """``grace`` is in seconds: a younger object may belong to an upload in progress."""
        self._stores = stores
        self._metrics = metrics
        self._grace = grace
        self._unreadable = 0  # objects in a row

    def count_items(self) -> int:
        """Estimate the number of masters, objects and vectors to check. Raises StoreUnavailable."""
        vectors = self._stores.vectors
        masters = sum(count for _, count in self._stores.metadata.list_collections())
        return 2 * masters + sum(vectors.count(version) for version in vectors.versions())

    def run_scrub(self, *, repair: bool, full: bool) -> Iterator[ScrubReport]:
        """Yield the report so far after each batch, so that the caller may pause or stop.

        The last report is complete. ``full`` reads every object; otherwise a thirtieth of them is
        read, another one each day. Raises StoreUnavailable.
        """
        report, start = ScrubReport(repair), time.monotonic()
        today = int(time.time() // _DAY) % _SAMPLE_DAYS
        steps = (
            self._check_masters(report, lambda id_: full or id_.int % _SAMPLE_DAYS == today),
            self._check_objects(report),
            self._check_vector_ids(report),
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

    def check_vectors(self, version: str) -> Iterator[tuple[ScrubReport, list[MasterRecord]]]:
        """Check only that every master has its vector of one version, and repair nothing.

        Yields the report so far and the records of each batch. Raises StoreUnavailable.
        """
        report = ScrubReport(repair=False)
        for batch in self._list_batches():
            self._check_vectors_of(batch, report, [version])
            report.masters += len(batch)
            yield report, batch

    def stream_scrub(self, *, repair: bool, full: bool) -> Iterator[dict[str, Any]]:
        """Run a scrub and yield its events: the progress after each batch, and then the report."""
        total, report = self.count_items(), ScrubReport(repair)
        for report in self.run_scrub(repair=repair, full=full):
            yield {"looked_at": report.checked, "total": total}
        yield {"report": report.as_json()}

    # From the rows to their objects and vectors

    def _list_batches(self) -> Iterator[list[MasterRecord]]:
        after: UUID | None = None
        while batch := self._stores.metadata.list_records(after, _BATCH):
            after = batch[-1].master.id
            yield batch

    def _check_masters(
        self, report: ScrubReport, is_read: Callable[[UUID], bool]
    ) -> Iterator[None]:
        for batch in self._list_batches():
            for record in batch:
                self._check_object_of(record.master, report, read=is_read(record.master.id))
            self._check_vectors_of(batch, report, self._list_complete_versions())
            report.masters += len(batch)
            yield

    def _check_object_of(self, master: Master, report: ScrubReport, *, read: bool) -> None:
        metadata, repair = self._stores.metadata, report.repair
        if master.state is MasterState.DAMAGED:
            problem = self._find_object_problem(master, report, read=True)
            if problem:  # the master is marked already
                report.add_finding(problem, master.id, repaired=repair)
            else:
                repaired = repair and metadata.restore_damaged(master.id)
                report.add_finding("healed", master.id, repaired=repaired)
            return
        problem = self._find_object_problem(master, report, read=read)
        if problem == "object-unreadable":
            report.add_finding(problem, master.id, repaired=False)
        elif (
            problem
            and metadata.find_master(master.id) is not None
            and self._find_object_problem(master, report, read=read) == problem
        ):
            repaired = repair and metadata.mark_damaged(master.id)
            report.add_finding(problem, master.id, repaired=repaired)

    def _find_object_problem(self, master: Master, report: ScrubReport, *, read: bool) -> str:
        """Return the kind of finding, or an empty string. Raises StoreUnavailable."""
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
        except StoreUnavailable:
            self._unreadable += 1
            if self._unreadable == _MAX_UNREADABLE:
                raise
            return "object-unreadable"
        self._unreadable = 0
        return ""

    def _check_vectors_of(
        self, batch: Sequence[MasterRecord], report: ScrubReport, versions: Sequence[str]
    ) -> None:
        for record, version, problem in self._find_vector_problems(batch, versions):
            current = self._find_record(record.master.id)
            if (
                current is None
                or not any(self._find_vector_problems([current], [version]))
                or self._find_record(current.master.id) != current
            ):
                continue  # it changed during the check
            repaired = report.repair and self._stores.metadata.requeue_embedding(
                current.master.id, version, current.indexed.get(version)
            )
            report.add_finding(problem, current.master.id, repaired=repaired)

    def _find_vector_problems(
        self, batch: Sequence[MasterRecord], versions: Sequence[str]
    ) -> Iterator[tuple[MasterRecord, str, str]]:
        """Yield record, version and kind of finding of stored masters.

        An embedding that is still pending is no finding.
        """
        stored = [record for record in batch if record.master.state is MasterState.STORED]
        for version in versions:
            indexed = [each for each in stored if each.indexed.get(version, 0) is not None]
            ids = [record.master.id for record in indexed]
            vectors = self._stores.vectors.fetch_vectors(version, ids)
            for record in indexed:
                vector = vectors.get(record.master.id)
                if vector is None:
                    yield record, version, "vector-missing"
                elif not _is_current(vector, record.master):
                    yield record, version, "vector-outdated"

    def _find_record(self, master_id: UUID) -> MasterRecord | None:
        return self._stores.metadata.find_records([master_id]).get(master_id)

    def _list_complete_versions(self) -> list[str]:
        """Return the versions that have an embedding of every master, unlike one being built."""
        complete = (ModelState.ACTIVE, ModelState.PREVIOUS)
        models = self._stores.registry.list_models()
        return [model.id for model in models if model.state in complete]

    # From the objects to their rows

    def _check_objects(self, report: ScrubReport) -> Iterator[None]:
        for batch in _split_into_batches(self._stores.objects.list(""), _BATCH):
            ids = {info.key: _parse_master_id(info.key) for info in batch}
            records = self._stores.metadata.find_records([id_ for id_ in ids.values() if id_])
            for info in batch:
                if _ENCODER_KEY.fullmatch(info.key) or _OTHER_KEY.fullmatch(info.key):
                    continue  # an encoder that was added but not started has no row
                id_ = ids[info.key]
                if id_ is None or (id_ in records and records[id_].master.object_key != info.key):
                    # never removed: it may be somebody's only copy
                    report.add_finding("object-foreign", info.key, repaired=False)
                elif id_ not in records and time.time() - info.modified >= self._grace:
                    self._check_unknown_object(info, id_, report)
            report.objects += len(batch)
            yield

    def _check_unknown_object(self, info: ObjectInfo, id_: UUID, report: ScrubReport) -> None:
        # A deletion removes the object before the row, so a listed object may be gone by now.
        if self._find_record(id_) or not self._object_exists(info.key):
            return
        if report.repair:
            self._stores.objects.delete(info.key)
        report.add_finding("object-unknown", info.key, repaired=report.repair)

    def _object_exists(self, key: str) -> bool:
        try:
            self._stores.objects.stat(key)
        except ObjectMissing:
            return False
        return True

    # From the vectors to their rows

    def _check_vector_ids(self, report: ScrubReport) -> Iterator[None]:
        for version in self._stores.vectors.versions():
            for ids in self._stores.vectors.iterate_ids(version):
                for batch in _split_into_batches(ids, _BATCH):
                    records = self._stores.metadata.find_records(batch)
                    for id_ in batch:
                        if id_ not in records:
                            self._check_unknown_vector(version, id_, report)
                    report.vectors += len(batch)
                    yield

    def _check_unknown_vector(self, version: str, id_: UUID, report: ScrubReport) -> None:
        if self._find_record(id_) or not self._stores.vectors.fetch_vectors(version, [id_]):
            return
        if report.repair:
            self._stores.vectors.delete(version, [id_])
        report.add_finding("vector-unknown", id_, repaired=report.repair)


def _is_current(vector: VectorRecord, master: Master) -> bool:
    """Tell whether the vector carries the master's collection, attributes and revision."""
    expected = (master.collection_id, master.attributes, master.revision)
    return (vector.collection_id, vector.attributes, vector.revision) == expected


def _parse_master_id(key: str) -> UUID | None:
    """Return the master's id in a key of the form Master.object_key; None for other keys."""
    match = _MASTER_KEY.fullmatch(key)
    return UUID(match["id"]) if match else None


def _split_into_batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
