"""The loop that drains what is pending: deletions, deleted collections, abandoned uploads, embeddings left over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

from app.logs import log
from app.metrics import Metrics
from app.services.deletion import Deletion
from app.services.indexing import Indexing
from app.services.reembed import Backfill
from app.services.scrub import Report, Scrub
from app.settings import Settings
from storage.errors import StoreUnavailable
from storage.protocols import MetadataStore, Stores
from storage.records import WORKER, IndexTask

_BATCH = 16
_LONGEST_BACKOFF = 300.0  # seconds
_FAILURES = 3  # of a store in one round; then it is left alone for a while
_PAUSE = 5.0  # seconds
_SCRUB_LOOK = 60.0  # seconds between two looks whether a scrub is due


class Worker:
    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        indexing: Indexing,
        scrub: Scrub,
        metrics: Metrics,
        wake: threading.Event,
    ) -> None:
        """``wake`` ends a pause at once: services set it when they leave work to the worker."""
        self._stores = stores
        self._deletion = Deletion(stores, settings.lease_seconds)
        self._indexing = indexing
        self._backfill = Backfill(stores, settings.lease_seconds)
        self._reembed_rate = settings.reembed_rate
        self._reembed_due = 0.0
        self._scrubbing = _Scrubbing(settings, stores.metadata, scrub)
        self._metrics = metrics
        self._lease = settings.lease_seconds
        self._interval = settings.worker_interval
        self._attempts = settings.index_attempts
        self._owner = f"{WORKER}{uuid4().hex}"
        self._wake = wake
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the item in hand, hand the others back."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Work in the calling thread until ``stop_soon``."""
        self._run()

    def stop_soon(self) -> None:
        """Like ``stop`` without waiting; safe in a signal handler."""
        self._stopping.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self.step():
                self._wake.wait(self._interval)
                self._wake.clear()
        with suppress(StoreUnavailable):  # the leases run out by themselves
            self._stores.metadata.release_owned_leases(self._owner)

    def step(self) -> bool:
        """One round of each duty; whether there was anything to do. A duty that fails does not hold up the others."""
        busy = False
        for duty in (
            self._delete,
            self._index_pending,
            self._backfill.step,
            self._reembed,
            self._scrubbing.step,
        ):
            if self._stopping.is_set():
                return True
            try:
                busy = duty() or busy
            except StoreUnavailable as error:
                log.warning("the worker waits for a store", store=error.store, reason=str(error))
            except Exception:  # the loop outlives whatever comes
                log.exception("the worker failed; it goes on")
        return busy

    def _delete(self) -> bool:
        return self._deletion.step(self._owner, self._stopping.is_set)

    def _index_pending(self) -> bool:
        """What a search lacks."""
        return self._index_some(self._indexing.versions[:1])

    def _reembed(self) -> bool:
        """What no search needs yet: at most so many a second, and after the others."""
        if time.monotonic() < self._reembed_due:
            return False
        busy = self._index_some(self._indexing.versions[1:])
        if busy and self._reembed_rate:
            self._reembed_due = time.monotonic() + _BATCH / self._reembed_rate
        return busy

    def _index_some(self, versions: list[str]) -> bool:
        failures, busy = 0, False
        for task in (
            self._stores.metadata.claim_embeddings(versions, self._owner, _BATCH, self._lease)
            if versions
            else ()
        ):
            if (
                self._stopping.is_set() or failures == _FAILURES
            ):  # then it is the store: hand back what was not tried
                self._stores.metadata.release_embedding(
                    task, self._owner, 0.0 if self._stopping.is_set() else _PAUSE
                )
                continue
            try:
                self._index(task)
                busy = True
            except StoreUnavailable as error:
                failures += 1
                log.warning(
                    "indexing is put off",
                    master=str(task.master.id),
                    store=error.store,
                    reason=str(error),
                )
                self._stores.metadata.release_embedding(task, self._owner, _PAUSE)
        return busy

    def _index(self, task: IndexTask) -> None:
        """Raises StoreUnavailable; one master that cannot be indexed must not hold up the others."""
        try:
            self._indexing.index(task, self._owner)
        except StoreUnavailable:
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


class _Scrubbing:
    """The scheduled scrub, a batch at a time between the worker's other duties; one process an interval does it."""

    def __init__(self, settings: Settings, metadata: MetadataStore, scrub: Scrub) -> None:
        self._settings = settings
        self._metadata = metadata
        self._scrub = scrub
        self._running: Iterator[Report] | None = None
        self._report: Report | None = None
        self._owner = ""
        self._due = time.monotonic() + min(_SCRUB_LOOK, settings.scrub_interval)

    def step(self) -> bool:
        """Begin one if it is due, or go on with it by a batch. Raises StoreUnavailable, which ends it; it begins anew later."""
        if not self._settings.scrub_interval or time.monotonic() < self._due:
            return False
        if self._running is None:
            self._begin()
            return False
        seen = self._report.looked_at if self._report else 0
        try:
            self._report = next(self._running)
        except StopIteration:
            self._end()
        except StoreUnavailable:
            self._running = self._report = None
            self._due = time.monotonic() + _SCRUB_LOOK
            self._metadata.release_lease("scrub", self._owner)
            raise
        else:
            self._due = (
                time.monotonic() + (self._report.looked_at - seen) / self._settings.scrub_rate
            )
        return False  # there is no hurry

    def _begin(self) -> None:
        self._due = time.monotonic() + min(_SCRUB_LOOK, self._settings.scrub_interval)
        self._owner = f"scrub-{uuid4().hex}"  # a new one each time: the lease lasts until the next scrub is due
        if self._metadata.acquire_lease("scrub", self._owner, self._settings.scrub_interval):
            self._running = self._scrub.run(repair=self._settings.scrub_repair, full=False)
            self._due = time.monotonic()

    def _end(self) -> None:
        report, self._running, self._report = self._report, None, None
        self._due = time.monotonic() + min(_SCRUB_LOOK, self._settings.scrub_interval)
        if report is not None:
            (log.info if report.clean else log.warning)("scrubbed", **report.as_json())
