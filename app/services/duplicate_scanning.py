"""Keeps the scans for near-identical masters up to date: the worker's part of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from app.errors import Busy
from app.logs import log
from app.services.duplicate_comparison import Comparer, Comparisons, OutOfTime
from app.services.vision import Vision
from models.local_features import FORMAT
from storage.errors import StoreUnavailable
from storage.protocols import DuplicateScan, MetadataStore, Stores

_LEASE = "duplicates"
_LONGEST_STEP = 0.5  # seconds, after which the worker's other duties come first
_BATCH = 64  # masters that are saved in one commit
_VISITED = 1000  # masters that are visited by one query
_MAX_FAILURES = 3  # of the object store per step; more mean that it is down
_PAUSE = 5.0  # seconds after a failure
_POLL = 1.0  # seconds between two passes through the collections of a scan, at least
_POLL_OF_EACH = 0.2  # the same for each scan there is, so that many cost no more than a few
_WHOLE_PASS = 600.0  # seconds after which masters of any age are visited again
_SETTLED = 600.0  # seconds after its id was made in which an upload may become visible
_LEFTOVERS = 1000  # results of ended scans that are removed in one commit


class _Pass:
    """A walk through the collections of a scan, to the masters that it has not compared."""

    def __init__(
        self, metadata: MetadataStore, scan: DuplicateScan, version: str, start: UUID | None
    ) -> None:
        self._metadata = metadata
        self._scan = scan
        self._version = version
        self.start = start  # everything up to it was compared by an earlier pass
        self.waiting = 0  # masters that cannot be compared yet
        self.failed = False
        self.ended = False
        self.pending: tuple[UUID, UUID] | None = None  # the next collection and master
        self._steps = self._walk()

    def find_next(self, until: float) -> tuple[UUID, UUID] | None:
        """Set ``pending`` unless it is set, and return it; None at the end or after the time."""
        while self.pending is None and not self.ended and time.monotonic() < until:
            try:
                self.pending = next(self._steps)
            except StopIteration:
                self.ended = True
        return self.pending if time.monotonic() < until else None

    def _walk(self) -> Iterator[tuple[UUID, UUID] | None]:
        """Yield each collection and master, and None after each query."""
        for collection_id in self._scan.collection_ids:
            after = self.start
            while True:
                part = self._metadata.list_unchecked(
                    self._scan.id, self._version, collection_id, after, _VISITED
                )
                self.waiting += part.waiting
                for master_id in part.ids:
                    yield collection_id, master_id
                yield None
                after = part.next_after
                if after is None:
                    break


@dataclass
class _Progress:
    """What this process remembers of a scan between two steps."""

    version: str
    settled: UUID | None = None  # everything up to it was compared
    due: float = 0.0  # of the next pass, on the monotonic clock
    whole_due: float = 0.0
    current: _Pass | None = None


class DuplicateScanning:
    """Compares the masters of all scans. Methods may raise StoreUnavailable."""

    def __init__(self, stores: Stores, vision: Vision, rate: float, lease: float) -> None:
        """``rate`` is a number of masters per second, 0 for no limit, and ``lease`` in seconds."""
        self._stores = stores
        self._comparer = Comparer(stores, vision)
        self._rate = rate
        self._lease = lease
        self._owner = f"duplicates-{uuid4().hex}"
        self._due = 0.0
        self._progress: dict[UUID, _Progress] = {}
        self._cleaned: list[UUID] | None = None  # the scans when no leftovers were found
        self._turn = 0
        self._poll = _POLL

    def run_step(self, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Compare some masters, in one process at a time; return whether there was any work.

        Once ``stopping`` returns True, the step ends after the master in hand.
        """
        if time.monotonic() < self._due:
            return False
        scans = self._stores.metadata.list_scans()
        self._poll = max(_POLL, _POLL_OF_EACH * len(scans))
        try:
            return self._remove_leftovers(scans) or self._take_turns(scans, stopping)
        except StoreUnavailable:
            self._due = time.monotonic() + _PAUSE
            for progress in self._progress.values():
                progress.current = None  # a walk ends with the first error
            raise

    def _remove_leftovers(self, scans: Sequence[DuplicateScan]) -> bool:
        """Remove results of scans that are gone, if other scans exist than when none was left."""
        known = [scan.id for scan in scans]
        if known == self._cleaned:
            return False
        self._progress = {id_: self._progress[id_] for id_ in known if id_ in self._progress}
        if self._stores.metadata.remove_leftovers(_LEFTOVERS):
            return True
        self._cleaned = known
        return False

    def _take_turns(self, scans: Sequence[DuplicateScan], stopping: Callable[[], bool]) -> bool:
        """Work on the first scan that has work, beginning behind that of the last step."""
        until = time.monotonic() + _LONGEST_STEP
        for number in range(len(scans)):
            place = (self._turn + number) % len(scans)
            if self._advance(scans[place], stopping, until):
                self._turn = place + 1
                return True
            if time.monotonic() > until:
                self._turn = place
                return False
        return False

    def _advance(self, scan: DuplicateScan, stopping: Callable[[], bool], until: float) -> bool:
        """Continue the pass of a scan, or begin one if it is due; return whether it had work."""
        version = self._stores.registry.find_active(scan.space)
        if version is None:
            return False
        progress = self._progress.get(scan.id)
        if progress is None or progress.version != version:
            progress = self._progress[scan.id] = _Progress(version)
        if progress.current is None:
            if time.monotonic() < progress.due:
                return False
            progress.current = self._begin_pass(scan, progress)
        current = progress.current
        if current.find_next(until) is not None:
            return self._compare_leased(scan, progress, current, stopping, until)
        if current.ended:
            self._end_pass(scan, progress, current)
        return False

    def _begin_pass(self, scan: DuplicateScan, progress: _Progress) -> _Pass:
        is_whole = scan.completed_at is None or time.monotonic() >= progress.whole_due
        start = None if is_whole else progress.settled
        return _Pass(self._stores.metadata, scan, progress.version, start)

    def _end_pass(self, scan: DuplicateScan, progress: _Progress, current: _Pass) -> None:
        now = time.monotonic()
        progress.current = None
        progress.due = now + (_PAUSE if current.failed else self._poll)
        if current.waiting or current.failed:
            return
        progress.settled = _make_id(time.time() - _SETTLED)
        if current.start is None:
            progress.whole_due = now + _WHOLE_PASS
        if scan.completed_at is None:
            self._stores.metadata.complete_scan(scan.id)

    def _compare_leased(
        self,
        scan: DuplicateScan,
        progress: _Progress,
        current: _Pass,
        stopping: Callable[[], bool],
        until: float,
    ) -> bool:
        """Compare and save while holding the lease; another process that holds it does the work."""
        metadata = self._stores.metadata
        if not metadata.acquire_lease(_LEASE, self._owner, self._lease):
            progress.current, progress.due = None, time.monotonic() + _POLL
            return False
        started = time.monotonic()
        found = Comparisons(progress.version)
        try:
            try:
                self._compare_some(scan, current, found, stopping, until)
            finally:
                self._save(scan, found)
        finally:
            metadata.release_lease(_LEASE, self._owner)
        if self._rate:
            amount = len(found.checked) + len(found.read)
            self._due = max(self._due, started + amount / self._rate)
        return True

    def _compare_some(
        self,
        scan: DuplicateScan,
        current: _Pass,
        found: Comparisons,
        stopping: Callable[[], bool],
        until: float,
    ) -> None:
        """Compare masters until there are enough results, or the time is over."""
        failures = 0
        while len(found.checked) < _BATCH and not stopping():
            pending = current.find_next(until)
            if pending is None:
                return
            collection_id, master_id = pending
            try:
                self._comparer.compare(scan, collection_id, master_id, found, until)
            except OutOfTime:
                return
            except Busy as error:
                log.warning("comparison postponed", master=str(master_id), reason=str(error))
                self._due = time.monotonic() + _PAUSE
                return
            except StoreUnavailable as error:
                failures += 1
                if failures == _MAX_FAILURES:
                    raise
                log.warning("comparison postponed", master=str(master_id), reason=str(error))
                current.failed = True
            current.pending = None

    def _save(self, scan: DuplicateScan, found: Comparisons) -> None:
        metadata = self._stores.metadata
        if found.read:
            metadata.save_features(found.read, FORMAT)
        if found.checked:
            metadata.save_checks(scan.id, found.version, found.checked, found.pairs)


def _make_id(moment: float) -> UUID:
    """Return an id that sorts before all that are made from ``moment`` on, in seconds."""
    return UUID(int=int(moment * 1000) << 80)
