"""Checks the three stores against each other, id by id, and repairs what is safe to repair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from app.errors import Conflict
from app.logs import log
from app.metrics import Metrics
from app.services.installation_id import BucketRefused, check_bucket
from app.services.removed_objects import QUARANTINE_PREFIX, RemovedObjects
from app.services.repair_guard import RepairGuard, may_expire
from app.services.scrub_report import KINDS, ScrubReport
from app.services.unknown_items import UnknownItems
from storage.errors import ObjectMissing, StoreUnavailable
from storage.hashing import sha256_of_chunks
from storage.protocols import Stores
from storage.records import (
    Master,
    MasterRecord,
    MasterState,
    ModelState,
    VectorRecord,
)

_BATCH = 200
_SAMPLE_DAYS = 30  # a scrub that is not full reads this share of the objects, others each day
_MAX_UNREADABLE = 3  # objects in a row that cannot be read before the store counts as down
_DAY = 86_400  # seconds
_LONGEST_UPLOAD = 3600.0  # seconds that an upload in parts may take, whatever the grace time
_PREFIXES = ("masters/", "models/", "catalogue/", "removed/", "quarantine/")  # of our own objects


class Scrub:
    """Runs scrubs, which are safe beside uploads, deletions and searches.

    Each finding is checked a second time before it counts, because the stores change meanwhile.
    """

    def __init__(self, stores: Stores, metrics: Metrics, *, grace: float) -> None:
        """``grace`` is in seconds: a younger object may belong to an upload in progress."""
        self._stores = stores
        self._metrics = metrics
        self._unknown = UnknownItems(stores, grace)
        self._quarantine = RemovedObjects(stores.objects, QUARANTINE_PREFIX)
        self._grace = grace
        self._unreadable = 0  # objects in a row

    def count_items(self, *, surveyed: bool = False) -> int:
        """Estimate the number of masters, objects and vectors to check.

        ``surveyed`` counts objects and vectors twice. Raises StoreUnavailable.
        """
        vectors = self._stores.vectors
        masters = sum(count for _, count in self._stores.metadata.list_collections())
        others = masters + sum(vectors.count(version) for version in vectors.versions())
        return masters + (2 if surveyed else 1) * others

    def run_scrub(
        self, *, repair: bool, full: bool, allow_removal: bool = False, quarantine_days: int = 0
    ) -> Iterator[ScrubReport]:
        """Yield the report so far after each batch, so that the caller may pause or stop.

        The last report is complete. ``full`` reads every object; otherwise a thirtieth of them is
        read, another one each day. Without ``allow_removal``, a scrub that would remove more than
        a small share repairs nothing. What was in quarantine for more than ``quarantine_days`` is
        deleted; 0 keeps it. With either of them, old uploads that never ended are aborted. Raises
        StoreUnavailable, and Conflict if the bucket belongs to another database, of which nothing
        may be repaired.
        """
        if repair:
            _check_bucket(self._stores)
        report, start = ScrubReport(repair, allow_removal), time.monotonic()
        guard = RepairGuard(self._stores, self._unknown, report)
        today = int(time.time() // _DAY) % _SAMPLE_DAYS
        steps = (
            guard.survey() if repair and not allow_removal else iter(()),
            self._check_masters(report, lambda id_: full or id_.int % _SAMPLE_DAYS == today),
            self._check_objects(report, guard),
            self._check_vector_ids(report, guard),
            self._expire_quarantine(report, quarantine_days),
        )
        for step in steps:
            for _ in step:
                report.seconds = time.monotonic() - start
                if report.refused:
                    self._metrics.scrub_refused.set(1)
                yield report
        if repair or quarantine_days:
            report.aborted = self._abort_uploads()
        report.seconds = time.monotonic() - start
        report.waiting = self._stores.metadata.count_pending_embeddings()
        for kind in KINDS:
            self._metrics.scrub_findings.labels(kind).set(report.found.get(kind, 0))
        if repair:
            self._metrics.scrub_refused.set(bool(report.refused))
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

    def stream_scrub(
        self, *, repair: bool, full: bool, allow_removal: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Run a scrub and yield its events: the progress after each batch, and then the report."""
        total = self.count_items(surveyed=repair and not allow_removal)
        report = ScrubReport(repair)
        for report in self.run_scrub(repair=repair, full=full, allow_removal=allow_removal):
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
        except StoreUnavailable as error:
            self._count_unreadable(error)
            return "object-unreadable"
        self._unreadable = 0
        return ""

    def _count_unreadable(self, error: StoreUnavailable) -> None:
        """Count an object that cannot be read. Raises the error if the store seems to be down."""
        self._unreadable += 1
        if self._unreadable == _MAX_UNREADABLE:
            raise error

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

    # From the objects and vectors to their rows

    def _check_objects(self, report: ScrubReport, guard: RepairGuard) -> Iterator[None]:
        for checked in self._unknown.check_objects():
            for key in checked.foreign:
                # never removed: it may be somebody's only copy
                report.add_finding("object-foreign", key, repaired=False)
            for key in checked.unknown:
                repaired = guard.allow_object() and self._put_into_quarantine(key)
                report.add_finding("object-unknown", key, repaired=repaired)
            report.objects += checked.count
            yield

    def _put_into_quarantine(self, key: str) -> bool:
        """Return whether the object was moved, which fails if it cannot be read."""
        try:
            moved = self._quarantine.move(key)
        except StoreUnavailable as error:
            self._count_unreadable(error)
            return False
        self._unreadable = 0
        return moved

    def _check_vector_ids(self, report: ScrubReport, guard: RepairGuard) -> Iterator[None]:
        for checked in self._unknown.check_vectors():
            for id_ in checked.unknown:
                repaired = guard.allow_vector(checked.version)
                if repaired:
                    self._stores.vectors.delete(checked.version, [id_])
                report.add_finding("vector-unknown", id_, repaired=repaired)
            report.vectors += checked.count
            yield

    def _expire_quarantine(self, report: ScrubReport, days: int) -> Iterator[None]:
        if days and may_expire(self._stores):
            for removed in self._quarantine.iterate_expired(days):
                log.info("quarantine expired", key=removed.place)
                report.expired += 1
                yield

    def _abort_uploads(self) -> int:
        """Abort the uploads that a killed process left in the object store; return their number."""
        before = time.time() - max(self._grace, _LONGEST_UPLOAD)
        return sum(self._stores.objects.abort_unfinished(prefix, before) for prefix in _PREFIXES)


def _check_bucket(stores: Stores) -> None:
    try:
        check_bucket(stores)
    except BucketRefused as error:
        raise Conflict("other-bucket", str(error)) from None


def _is_current(vector: VectorRecord, master: Master) -> bool:
    """Tell whether the vector carries the master's collection, indexed fields and revision."""
    expected = (master.collection_id, master.indexed_fields, master.revision)
    return (vector.collection_id, vector.attributes, vector.revision) == expected
