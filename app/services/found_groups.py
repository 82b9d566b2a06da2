"""The groups of each scan, computed from its pairs and kept while neither changes."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from uuid import UUID

from app.services.duplicate_groups import DuplicateGroup, group_pairs
from storage.protocols import DuplicateScan, MetadataStore, RawPair

_KEPT = 4  # scans
_PAIRS = 20_000  # read at once
_CHUNK = 400  # members of the groups that are yielded at once, or those of one group
_PATIENCE = 10  # times as long as computing took, groups of a running scan are shown
_MOST_HIDDEN = 100  # groups without visible masters, after which they are computed again


@dataclass(frozen=True)
class GroupPosition:
    """A place in a list of groups."""

    size: int
    certainty: int
    representative: bytes


class GroupOrder(StrEnum):
    """In which order groups are listed."""

    SIZE = "size"  # those of most masters first
    CERTAINTY = "certainty"  # the most certain first

    def position_of(self, group: DuplicateGroup) -> GroupPosition:
        """Return where a group is in any list."""
        return GroupPosition(len(group.members), group.certainty, group.representative)

    def key(self, place: GroupPosition) -> tuple[int, int, bytes]:
        """Return what the list is sorted by."""
        numbers = (-place.size, -place.certainty)
        if self is GroupOrder.CERTAINTY:
            numbers = numbers[::-1]
        return *numbers, place.representative

    def key_of(self, group: DuplicateGroup) -> tuple[int, int, bytes]:
        """Return what the list is sorted by, for a group."""
        return self.key(self.position_of(group))


SIZE, CERTAINTY = GroupOrder.SIZE, GroupOrder.CERTAINTY


@dataclass
class _Computed:
    changes: int  # of the scan
    groups: list[DuplicateGroup]
    at: float  # on the monotonic clock
    seconds: float  # that it took
    hidden: int = 0  # groups that were seen without two visible masters
    orders: dict[GroupOrder, list[DuplicateGroup]] = field(default_factory=dict)


class FoundGroups:
    """Computes the groups of scans, and keeps those of the last few. Thread-safe."""

    def __init__(self, metadata: MetadataStore) -> None:
        self._metadata = metadata
        self._lock = threading.Lock()  # two requests do not compute the same at the same time
        self._kept: OrderedDict[UUID, _Computed] = OrderedDict()

    def forget(self) -> None:
        """Compute all groups again when they are needed next."""
        with self._lock:
            self._kept.clear()

    def walk(
        self,
        scan: DuplicateScan,
        order: GroupOrder,
        after: GroupPosition | None,
        *,
        fresh: bool = False,
    ) -> Iterator[list[DuplicateGroup]]:
        """Yield the groups behind a position, some at a time. Raises StoreUnavailable.

        ``fresh`` groups are computed now, from every decision that has been made in any process.
        """
        with self._lock:
            if fresh:
                self._kept.pop(scan.id, None)
            groups = self._sort(self._find(scan), order)
        start = 0
        if after is not None:
            start = bisect_right(groups, order.key(after), key=order.key_of)
        chunk: list[DuplicateGroup] = []
        members = 0
        for group in islice(groups, start, None):
            chunk.append(group)
            members += len(group.members)
            if members >= _CHUNK:
                yield chunk
                chunk, members = [], 0
        if chunk:
            yield chunk

    def note_hidden(self, scan: DuplicateScan, hidden: int) -> None:
        """Count groups that had less than two visible masters; many are computed again."""
        with self._lock:
            kept = self._kept.get(scan.id)
            if kept is not None and hidden:
                kept.hidden += hidden
                if kept.hidden > _MOST_HIDDEN:
                    del self._kept[scan.id]

    def _find(self, scan: DuplicateScan) -> _Computed:
        kept = self._kept.get(scan.id)
        if kept is not None and (kept.changes == scan.changes or _is_recent(kept, scan)):
            self._kept.move_to_end(scan.id)
            return kept
        begun = time.monotonic()
        groups = group_pairs(self._read_pairs(scan), self._read_apart(scan))
        now = time.monotonic()
        found = self._kept[scan.id] = _Computed(scan.changes, groups, now, now - begun)
        self._kept.move_to_end(scan.id)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found

    def _sort(self, found: _Computed, order: GroupOrder) -> list[DuplicateGroup]:
        if order not in found.orders:
            found.orders[order] = sorted(found.groups, key=order.key_of)
        return found.orders[order]

    def _read_pairs(self, scan: DuplicateScan) -> Iterator[RawPair]:
        after = None
        while True:
            pairs = self._metadata.list_pairs(scan.id, _PAIRS, after)
            yield from pairs
            if len(pairs) < _PAIRS:
                return
            after = UUID(bytes=pairs[-1].first), UUID(bytes=pairs[-1].second)

    def _read_apart(self, scan: DuplicateScan) -> set[frozenset[bytes]]:
        apart: set[frozenset[bytes]] = set()
        after = None
        while True:
            some = self._metadata.list_decisions(scan.collection_ids, _PAIRS, after)
            apart.update(frozenset(id_.bytes for id_ in each.masters) for each in some)
            if len(some) < _PAIRS:
                return apart
            after = some[-1].masters


def _is_recent(kept: _Computed, scan: DuplicateScan) -> bool:
    """Return whether groups of a running scan, whose pairs change all the time, are shown still."""
    age = time.monotonic() - kept.at
    return scan.completed_at is None and age < _PATIENCE * kept.seconds
