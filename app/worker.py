"""The worker: carries out what requests leave behind, in a loop of small rounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from app.errors import Busy, Conflict
from app.logs import log
from app.metrics import Metrics
from app.services.backfill import Backfill
from app.services.captures import Captures
from app.services.catalogue_schedule import ScheduledCatalogue
from app.services.database_doubt import DatabaseDoubt
from app.services.deletion import Deletion
from app.services.duplicate_scanning import DuplicateScanning
from app.services.indexing import Indexing
from app.services.scrub import Scrub
from app.services.scrub_report import ScrubReport
from app.settings import Settings
from storage.errors import StoreUnavailable
from storage.protocols import MetadataStore, Stores
from storage.records import WORKER, IndexTask

_BATCH = 16
_LONGEST_BACKOFF = 300.0  # seconds
_MAX_FAILURES = 3  # of a store per round, before the rest of the batch is postponed
_POSTPONED = 5.0  # seconds
_SCRUB_POLL = 60.0  # seconds between two checks whether a scrub is due
_SCRUB_LEASE = "scrub"


class Worker:
    """Deletes, indexes, backfills, reads metadata, compares, scrubs, updates the catalogue."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        indexing: Indexing,
        captures: Captures,
        scanning: DuplicateScanning,
        scrub: Scrub,
        metrics: Metrics,
        wake: threading.Event,
    ) -> None:
        """``wake`` ends a pause at once; services set it when they leave work to the worker."""
        self._stores = stores
        self._doubt = DatabaseDoubt(stores)
        self._deletion = Deletion(stores, settings.lease_seconds)
        self._indexing = indexing
        self._captures = captures
        self._scanning = scanning
        self._is_indexing = False
        self._backfill = Backfill(stores, settings.lease_seconds)
        self._reembed_rate = settings.reembed_rate
        self._reembed_due = 0.0
        self._scheduled_scrub = _ScheduledScrub(settings, stores.metadata, scrub)
        self._scheduled_catalogue = ScheduledCatalogue(stores, settings.catalogue_interval)
        self._metrics = metrics
        self._lease = settings.lease_seconds
        self._interval = settings.worker_interval
        self._attempts = settings.index_attempts
        self._owner = f"{WORKER}{uuid4().hex}"
        self._wake = wake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="worker", daemon=True)

    def start(self) -> None:
        """Run in a thread of its own until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the item in hand, release the others, and wait for the thread to end."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join()

    def request_stop(self) -> None:
        """Stop after the item in hand, without waiting. Safe in a signal handler."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Run in the calling thread until ``request_stop``."""
        while not self._stopping.is_set():
            if not self.run_round():
                self._wake.wait(self._interval)
                self._wake.clear()
        with suppress(StoreUnavailable):  # the leases expire by themselves
            self._stores.metadata.release_owned_leases(self._owner)

    def run_round(self) -> bool:
        """Run each duty once; one that fails does not stop the others.

        Returns whether there was anything to do.
        """
        busy = False
        for duty in (
            self._remove_deleted,
            self._index_active,
            self._change_models,
            self._index_other_versions,
            self._read_captures,
            self._compare_masters,
            self._scheduled_scrub.run_step,
            self._scheduled_catalogue.run_step,
        ):
            if self._stopping.is_set():
                return True
            try:
                busy = duty() or busy
            except StoreUnavailable as error:
                log.warning("the worker waits for a store", store=error.store, reason=str(error))
            except Exception:  # the loop must survive every error
                log.exception("a duty of the worker failed")
        return busy

    def _change_models(self) -> bool:
        return not self._doubt.exists() and self._backfill.run_batch()

    def _remove_deleted(self) -> bool:
        if self._doubt.exists():
            return False
        return self._deletion.remove_deleted(self._owner, self._stopping.is_set)

    def _index_active(self) -> bool:
        """Index for the active version of each space, which searches use."""
        self._is_indexing = True  # stays so if the next line raises
        self._is_indexing = self._index_batch(self._indexing.active_versions)
        return self._is_indexing

    def _index_other_versions(self) -> bool:
        """Index for versions that no search uses yet, at most LOOKALIKE_REEMBED_RATE a second."""
        if time.monotonic() < self._reembed_due:
            return False
        active = self._indexing.active_versions
        others = [version for version in self._indexing.live_versions if version not in active]
        busy = self._index_batch(others)
        if busy and self._reembed_rate:
            self._reembed_due = time.monotonic() + _BATCH / self._reembed_rate
        return busy

    def _read_captures(self) -> bool:
        """Read the files of masters that an earlier release stored, if nothing is to be indexed.

        Otherwise embeddings would become pending faster than they are indexed. A database that may
        be outdated stays as it is, because revisions tell how old it is.
        """
        if self._is_indexing or self._doubt.exists():
            return False
        return self._captures.read_batch(self._stopping.is_set)

    def _compare_masters(self) -> bool:
        """Look for duplicates, if nothing is to be indexed."""
        return not self._is_indexing and self._scanning.run_step(self._stopping.is_set)

    def _index_batch(self, versions: list[str]) -> bool:
        if not versions:
            return False
        metadata = self._stores.metadata
        failures, busy, leased_at = 0, False, time.monotonic()
        for task in metadata.claim_embeddings(versions, self._owner, _BATCH, self._lease):
            if self._stopping.is_set():
                metadata.release_embedding(task, self._owner, 0.0)
                continue
            if failures == _MAX_FAILURES:  # a store is down, or this process is busy
                metadata.release_embedding(task, self._owner, _POSTPONED)
                continue
            try:
                self._index_task(task, leased_at)
                busy = True
            except (StoreUnavailable, Busy) as error:
                failures += 1
                log.warning("indexing postponed", master=str(task.master.id), reason=str(error))
                metadata.release_embedding(task, self._owner, _POSTPONED)
        return busy

    def _index_task(self, task: IndexTask, leased_at: float) -> None:
        """Index one embedding, leased since ``leased_at`` on the monotonic clock.

        Any failure but an outage of a store or a busy process counts as an attempt. The next
        attempt waits twice as long. Raises StoreUnavailable, Busy.
        """
        try:
            self._indexing.index_embedding(task, self._owner, None, leased_at)
        except (StoreUnavailable, Busy):
            raise
        except Exception as error:
            self._metrics.index_failures.inc()
            attempts = task.attempts + 1
            delay = min(_LONGEST_BACKOFF, 2.0**attempts) if attempts < self._attempts else None
            log.warning(
                "indexing failed",
                master=str(task.master.id),
                attempts=attempts,
                retry_s=delay,
                reason=str(error),
            )
            failure = f"{type(error).__name__}: {error}"
            self._stores.metadata.retry_embedding(task, self._owner, failure, delay)


class _ScheduledScrub:
    """Scrubs every LOOKALIKE_SCRUB_INTERVAL seconds, a batch between the worker's other duties.

    A lease that lasts for the interval makes sure that one process does it.
    """

    def __init__(self, settings: Settings, metadata: MetadataStore, scrub: Scrub) -> None:
        self._settings = settings
        self._metadata = metadata
        self._scrub = scrub
        self._running: Iterator[ScrubReport] | None = None
        self._report: ScrubReport | None = None
        self._owner = ""
        self._poll = min(_SCRUB_POLL, settings.scrub_interval)
        self._due = time.monotonic() + self._poll

    def run_step(self) -> bool:
        """Begin a scrub if it is due, or run its next batch.

        Returns False always, because a scrub is never urgent. StoreUnavailable ends the scrub, and
        a later one begins from the start.
        """
        if not self._settings.scrub_interval or time.monotonic() < self._due:
            return False
        if self._running is None:
            self._begin()
            return False
        last = self._report
        checked, refused = (last.checked, last.refused) if last else (0, "")
        try:
            self._report = next(self._running)
        except StopIteration:
            self._end()
        except Conflict as error:
            self._end()
            log.error("the scrub does not run", reason=str(error))
        except StoreUnavailable:
            self._running = self._report = None
            self._due = time.monotonic() + _SCRUB_POLL
            self._metadata.release_lease(_SCRUB_LEASE, self._owner)
            raise
        else:
            if self._report.refused != refused:
                log.error("the scrub repairs nothing", reason=self._report.refused)
            pause = (self._report.checked - checked) / self._settings.scrub_rate
            self._due = time.monotonic() + pause
        return False

    def _begin(self) -> None:
        self._due = time.monotonic() + self._poll
        # A new owner for each scrub: the same one could extend its lease and scrub too often.
        self._owner = f"scrub-{uuid4().hex}"
        interval = self._settings.scrub_interval
        if self._metadata.acquire_lease(_SCRUB_LEASE, self._owner, interval):
            self._running = self._scrub.run_scrub(
                repair=self._settings.scrub_repair,
                full=False,
                quarantine_days=self._settings.quarantine_days,
            )
            self._due = time.monotonic()

    def _end(self) -> None:
        report, self._running, self._report = self._report, None, None
        self._due = time.monotonic() + self._poll
        if report is not None:
            (log.info if report.clean else log.warning)("scrub finished", **report.as_json())
