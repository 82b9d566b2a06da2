"""Reads the capture metadata of masters that an earlier release stored without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID, uuid4

from app.errors import Busy
from app.logs import log
from app.services.names import MAX_LENGTH
from app.services.originals import OriginalDamaged, read_original
from app.services.vision import Vision
from models.capture.reading import READER
from models.capture.values import Capture
from models.imaging import ImageRejected
from storage.attributes import InvalidAttributes, clean_attributes
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import CaptureChange, Stores
from storage.records import Attributes, Master
from storage.unicode_text import cut_text, normalize_text

_LEASE = "captures"
_BATCH = 100  # masters that are saved in one commit
_LONGEST_STEP = 0.5  # seconds, after which the worker's other duties come first
_MAX_FAILURES = 3  # of the object store per step; more mean that it is down
_MAX_SKIPPED = 200
_PAUSE = 5.0  # seconds after a failure
_FORGET_BATCH = 1000


class Captures:
    """The metadata in the files of masters. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        vision: Vision,
        rate: float,
        lease: float,
        wake_worker: Callable[[], None],
    ) -> None:
        """``rate`` is the maximum number of masters per second, and ``lease`` in seconds."""
        self._stores = stores
        self._vision = vision
        self._rate = rate
        self._lease = lease
        self._wake_worker = wake_worker
        self._owner = f"captures-{uuid4().hex}"
        self._due = 0.0
        self._skipped: set[UUID] = set()  # masters whose objects cannot be read now

    def count_unread(self) -> int:
        """Return the number of masters whose files have not been read by this release."""
        return self._stores.metadata.count_unread(READER)

    def reread(self) -> int:
        """Let the worker read the files of all masters again, and return how many are unread."""
        while self._stores.metadata.forget_readers(READER, _FORGET_BATCH) == _FORGET_BATCH:
            pass
        self._wake_worker()
        return self.count_unread()

    def read_batch(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Read the files of some masters, in one process at a time, and save their metadata.

        What was known of a file that is missing or damaged stays. Once ``stopping`` returns
        True, the batch ends after the current master. Returns whether there was anything to read.
        """
        metadata = self._stores.metadata
        if time.monotonic() < self._due or not metadata.list_unread(READER, 1):
            return False
        if not metadata.acquire_lease(_LEASE, self._owner, self._lease):
            return False
        try:
            return self._read_batch(stopping)
        except StoreUnavailable:
            self._due = time.monotonic() + _PAUSE
            raise
        finally:
            metadata.release_lease(_LEASE, self._owner)

    def _read_batch(self, stopping: Callable[[], bool]) -> bool:
        started = time.monotonic()
        masters = self._list_unread()
        if not masters:
            self._due = started + _PAUSE
            return False
        changes, failure = self._read_files(masters, stopping, started + _LONGEST_STEP)
        self._stores.metadata.save_captures(READER, changes)
        if failure is not None:
            raise failure
        self._due = max(self._due, started + len(changes) / self._rate)
        return bool(changes)

    def _list_unread(self) -> list[Master]:
        """List unread masters; those whose objects could not be read have their turn last."""
        limit = _BATCH + len(self._skipped)
        unread = self._stores.metadata.list_unread(READER, limit)
        masters = [master for master in unread if master.id not in self._skipped]
        if not masters or len(self._skipped) > _MAX_SKIPPED:
            self._skipped.clear()
        return masters[:_BATCH]

    def _read_files(
        self, masters: Sequence[Master], stopping: Callable[[], bool], until: float
    ) -> tuple[list[CaptureChange], StoreUnavailable | None]:
        """Read files until ``until``; return what to save, and the outage that ended it, if any."""
        changes: list[CaptureChange] = []
        failures = 0
        for master in masters:
            if stopping() or time.monotonic() > until:
                break
            try:
                changes.append(self._read_file(master))
            except StoreUnavailable as error:
                failures += 1
                self._skipped.add(master.id)
                if failures == _MAX_FAILURES:
                    return changes, error
                log.warning("reading postponed", master=str(master.id), reason=str(error))
            except Busy as error:
                log.warning("reading postponed", master=str(master.id), reason=str(error))
                self._due = time.monotonic() + _PAUSE
                break
        return changes, None

    def _read_file(self, master: Master) -> CaptureChange:
        """Return what the file contains. Raises StoreUnavailable, Busy."""
        capture = self._find_known(master)
        try:
            capture = self._vision.read_capture(
                partial(read_original, self._stores.objects, master)
            )
        except (StoreUnavailable, Busy):
            raise
        except (ObjectMissing, OriginalDamaged, ImageRejected) as error:
            log.warning("a file cannot be read", master=str(master.id), reason=str(error))
        except Exception:  # it would fail again and again
            log.exception("a file cannot be read", master=str(master.id))
        name = cut_text(normalize_text(master.name), MAX_LENGTH)  # NFC may be longer
        return CaptureChange(master, capture, name, _normalize_attributes(master.attributes))

    def _find_known(self, master: Master) -> Capture:
        """Return what the file was known to contain, without what is no longer to be kept."""
        known = master.capture or {}
        dropped = () if self._vision.keep_gps else ("gps",)
        return {name: value for name, value in known.items() if name not in dropped}


def _normalize_attributes(attributes: Attributes) -> Attributes:
    """Return the attributes in NFC, or as they are if two of their keys would become one."""
    try:
        return clean_attributes(attributes)
    except InvalidAttributes:
        return attributes
