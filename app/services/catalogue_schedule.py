"""Decides when the worker updates the catalogue, and how fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

from app.logs import log
from app.services.catalogue import (
    CATALOGUE_LEASE,
    Catalogue,
    CatalogueRefused,
    CatalogueReport,
)
from storage.errors import StoreUnavailable
from storage.protocols import Stores

_POLL = 60.0  # seconds before the first pass, and before the next attempt after a failure
_LEASE = 300.0  # seconds for one step
_PAUSE = 9  # times as long as the step before: a pass uses a tenth of the time


class ScheduledCatalogue:
    """Updates the catalogue once per interval, a batch between the worker's other duties.

    A lease makes sure that one process does it at a time.
    """

    def __init__(self, stores: Stores, interval: float) -> None:
        """``interval`` is in seconds; 0 means never."""
        self._metadata = stores.metadata
        self._catalogue = Catalogue(stores)
        self._interval = interval
        self._poll = min(_POLL, interval)
        self._running: Iterator[CatalogueReport] | None = None
        self._report = CatalogueReport()
        self._owner = f"catalogue-{uuid4().hex}"
        self._due = time.monotonic() + self._poll

    def run_step(self) -> bool:
        """Begin a pass if it is due, or run its next batch.

        Returns False always, because a pass is never urgent. StoreUnavailable ends it, and a later
        one begins from the start.
        """
        start = time.monotonic()
        if not self._interval or start < self._due:
            return False
        self._due = start + self._poll
        if not self._metadata.acquire_lease(CATALOGUE_LEASE, self._owner, _LEASE):
            self._running = None
            return False
        try:
            self._advance(start)
        except CatalogueRefused as error:
            self._end(self._interval)
            log.error("the catalogue is not updated", reason=str(error))
        except StoreUnavailable:
            self._end(self._poll)
            raise
        return False

    def _advance(self, start: float) -> None:
        if self._running is None:
            age = time.time() - self._catalogue.find_last_pass() / 1000
            if 0 <= age < self._interval:  # a moment in the future comes from a wrong clock
                self._end(self._interval - age)
                return
            self._running = self._catalogue.write()
        try:
            self._report = next(self._running)
        except StopIteration:
            self._end(self._interval)
            log.info("catalogue updated", **vars(self._report))
        else:
            now = time.monotonic()
            self._due = now + _PAUSE * (now - start)

    def _end(self, pause: float) -> None:
        self._running = None
        self._due = time.monotonic() + pause
        self._metadata.release_lease(CATALOGUE_LEASE, self._owner)
