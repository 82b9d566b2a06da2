"""The loop that drains what is pending: deletions, deleted collections, abandoned uploads, embeddings left over."""

from __future__ import annotations

import threading
from contextlib import suppress
from uuid import uuid4

from app.observability import Metrics, log
from app.services.deletion import Deletion
from app.services.indexing import Indexing
from storage.protocols import IndexTask, Stores, StoreUnavailable

_BATCH = 16
_LONGEST_BACKOFF = 300.0  # seconds


class Worker:
    def __init__(self, stores: Stores, indexing: Indexing, metrics: Metrics, *, lease: float, interval: float) -> None:
        self._stores = stores
        self._deletion = Deletion(stores, lease)
        self._indexing = indexing
        self._metrics = metrics
        self._lease = lease
        self._interval = interval
        self._owner = f"worker-{uuid4().hex}"
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is something to do: do not wait for the interval."""
        self._wake.set()

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
            try:
                busy = self.step()
            except StoreUnavailable as error:
                log.warning("the worker waits for a store", store=error.store, reason=str(error))
                busy = False
            except Exception:  # the loop outlives whatever comes
                log.exception("the worker failed; it goes on")
                busy = False
            if not busy:
                self._wake.wait(self._interval)
                self._wake.clear()
        with suppress(StoreUnavailable):  # the leases run out by themselves
            self._stores.metadata.release_leases(self._owner)

    def step(self) -> bool:
        """One round; whether there was anything to do."""
        busy = self._deletion.step(self._owner, self._stopping.is_set)
        if self._stopping.is_set():
            return True
        for task in self._stores.metadata.claim_embeddings(self._indexing.versions, self._owner, _BATCH, self._lease):
            if self._stopping.is_set():
                return True
            self._index(task)
            busy = True
        return busy

    def _index(self, task: IndexTask) -> None:
        try:
            self._indexing.index(task, self._owner)
        except Exception as error:  # one master that cannot be indexed must not hold up the others
            self._metrics.index_failures.inc()
            delay = min(_LONGEST_BACKOFF, 2.0**task.attempts)
            log.warning(
                "indexing failed", master=str(task.master.id), attempts=task.attempts + 1, retry_s=delay, reason=str(error)
            )
            self._stores.metadata.retry_embedding(task, self._owner, delay)
