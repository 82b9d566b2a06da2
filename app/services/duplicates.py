"""Near-identical masters: scans of collections, groups, and what people decide about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.errors import InvalidInput, NotFound
from app.services.collections import Collections
from app.services.duplicate_comparison import MAX_DISTANCE
from app.services.duplicate_groups import DuplicateGroup
from app.services.found_groups import CERTAINTY, SIZE, FoundGroups, GroupOrder, GroupPosition
from app.services.loaded_models import LoadedModels
from storage.errors import CollectionGone
from storage.protocols import DecidedPair, Decision, DuplicateScan, Stores
from storage.protocols.duplicates import IdPair
from storage.records import LOOK, Collection, Master

__all__ = ["CERTAINTY", "SIZE", "Duplicates", "GroupPage", "ScanState", "ShownGroup"]
_MOST_MEMBERS = 1000  # of the groups of a page, after which it ends
MOST_DECIDED = 100  # masters of one decision
_OBSERVED = 60.0  # seconds over which the speed of a scan is measured
_SHORTEST = 1.0  # seconds


@dataclass(frozen=True)
class ScanState:
    """A scan and how far it is."""

    scan: DuplicateScan
    collection: Collection
    other: Collection  # the same one: within the collection
    checked: int  # masters that were compared
    total: int
    pairs: int
    eta: float | None  # seconds until all are compared; None if it is not known, or complete

    @property
    def is_complete(self) -> bool:
        """Whether every master that can be compared had been when this was last noted."""
        return self.scan.completed_at is not None


@dataclass(frozen=True)
class Member:
    """A master of a group; the representative is not compared with itself."""

    master: Master
    common: int | None  # local features that it shares with the representative
    distance: float | None


@dataclass(frozen=True)
class ShownGroup:
    """A group of which at least two masters are visible; the representative is named first."""

    id: UUID
    certainty: int
    members: list[Member]


@dataclass(frozen=True)
class GroupPage:
    """A page of groups."""

    state: ScanState
    groups: list[ShownGroup]
    next_after: GroupPosition | None


class Duplicates:
    """Starts and reads scans. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        collections: Collections,
        models: LoadedModels,
        wake_worker: Callable[[], None],
    ) -> None:
        """``wake_worker`` is called when a scan is started."""
        self._stores = stores
        self._metadata = stores.metadata
        self._collections = collections
        self._models = models
        self._wake_worker = wake_worker
        self._found = FoundGroups(stores.metadata)
        self._speeds = _Speeds()

    def start_scan(
        self, name: str, other: str | None, space: str, max_distance: float | None
    ) -> ScanState:
        """Start the scan of a collection, or of two, or have it look for new masters.

        ``max_distance`` None means that of the scan, or the default. Another distance than before
        starts the scan over. Raises InvalidInput, NotFound, Unavailable.
        """
        collections = self._find_collections(name, other)
        self._models.active_version(space)
        if max_distance is None:
            max_distance = self._choose_distance(collections, space)
        ids = [each.id for each in collections]
        try:
            scan = self._metadata.start_scan(ids[0], ids[1], space, max_distance)
        except CollectionGone:
            detail = "A collection was deleted in the meantime. Nothing was started."
            raise NotFound("collection-not-found", detail) from None
        self._wake_worker()
        return self._describe(scan, collections)

    def find_scan(self, name: str, other: str | None, space: str) -> ScanState:
        """Return the scan and how far it is. Raises InvalidInput, NotFound, Unavailable."""
        collections = self._find_collections(name, other)
        return self._describe(self._read_scan(collections, space), collections)

    def end_scan(self, name: str, other: str | None, space: str) -> None:
        """End a scan and remove what it found. Decisions stay. Raises InvalidInput, NotFound."""
        scan = self._read_scan(self._find_collections(name, other), space)
        self._metadata.end_scan(scan.id)
        self._wake_worker()

    def list_groups(
        self,
        name: str,
        other: str | None,
        space: str,
        order: GroupOrder,
        limit: int,
        after: GroupPosition | None,
    ) -> GroupPage:
        """Return a page of groups of visible masters.

        It has fewer than ``limit`` if these have many members. Raises InvalidInput, NotFound,
        Unavailable.
        """
        state = self.find_scan(name, other, space)
        groups: list[ShownGroup] = []
        last, members = after, 0
        for group, shown in self._walk_groups(state.scan, order, after):
            if len(groups) == limit or members >= _MOST_MEMBERS:
                return GroupPage(state, groups, last)
            if shown is not None:
                groups.append(shown)
                members += len(shown.members)
                last = order.position_of(group)
        return GroupPage(state, groups, None)

    def iterate_groups(
        self, name: str, other: str | None, space: str, order: GroupOrder = SIZE
    ) -> Iterator[ShownGroup]:
        """Yield all groups of visible masters, computed now. Raises InvalidInput, NotFound."""
        scan = self._read_scan(self._find_collections(name, other), space)
        for _, shown in self._walk_groups(scan, order, None, fresh=True):
            if shown is not None:
                yield shown

    def decide(self, ids: Sequence[UUID], decision: Decision) -> int:
        """Decide about every two of the masters, and return the number of pairs.

        Raises InvalidInput unless these are 2 to 100 different masters, and NotFound.
        """
        distinct = _check_masters(ids)
        missing = self._metadata.save_decisions(distinct, decision)
        if missing:
            detail = (
                f"There is no master {min(missing)}. It may have been deleted. Nothing was decided."
            )
            raise NotFound("master-not-found", detail)
        self._found.forget()
        return len(distinct) * (len(distinct) - 1) // 2

    def withdraw(self, ids: Sequence[UUID]) -> int:
        """Remove what was decided about every two of the masters; return the number of pairs.

        Raises InvalidInput unless these are 2 to 100 different masters.
        """
        removed = self._metadata.remove_decisions(_check_masters(ids))
        self._found.forget()
        return removed

    def list_decisions(
        self, name: str, limit: int, after: IdPair | None
    ) -> tuple[list[DecidedPair], IdPair | None]:
        """Return decisions about masters of a collection, and where the next page begins.

        Raises InvalidInput, NotFound.
        """
        collection = self._collections.find_collection(name)
        decided = self._metadata.list_decisions([collection.id], limit + 1, after)
        page = decided[:limit]
        return page, page[-1].masters if len(decided) > limit else None

    def _find_collections(self, name: str, other: str | None) -> tuple[Collection, Collection]:
        collection = self._collections.find_collection(name)
        if other is None:
            return collection, collection
        check_other_name(name, other)
        return collection, self._collections.find_collection(other)

    def _read_scan(self, collections: tuple[Collection, Collection], space: str) -> DuplicateScan:
        one, other = collections
        self._models.active_version(space)  # the name is checked before a database compares it
        scan = self._metadata.find_scan(one.id, other.id, space)
        if scan is None:
            between = f"in {one.name}" if one == other else f"between {one.name} and {other.name}"
            detail = (
                f"No scan for duplicates was started {between} in the space {space}. Start one with"
                f" POST /collections/{one.name}/duplicates or `lookalike duplicates scan`."
            )
            raise NotFound("scan-not-found", detail)
        return scan

    def _choose_distance(self, collections: tuple[Collection, Collection], space: str) -> float:
        one, other = collections
        scan = self._metadata.find_scan(one.id, other.id, space)
        if scan is not None:
            return scan.max_distance
        if space == LOOK:
            return MAX_DISTANCE
        detail = f"max_distance has no default in the space {space}. Give one, from 0 to 2."
        raise InvalidInput("invalid-request", detail)

    def _describe(
        self, scan: DuplicateScan, collections: tuple[Collection, Collection]
    ) -> ScanState:
        version = self._stores.registry.find_active(scan.space)
        total = sum(map(self._metadata.count_masters, scan.collection_ids))
        # Those of deleted masters are counted until the worker has forgotten them.
        checked = min(total, self._metadata.count_checked(scan.id, version or ""))
        pairs = self._metadata.count_pairs(scan.id)
        is_complete = scan.completed_at is not None
        eta = None if is_complete else self._speeds.estimate(scan.id, checked, total)
        return ScanState(scan, *collections, checked, total, pairs, eta)

    def _walk_groups(
        self,
        scan: DuplicateScan,
        order: GroupOrder,
        after: GroupPosition | None,
        *,
        fresh: bool = False,
    ) -> Iterator[tuple[DuplicateGroup, ShownGroup | None]]:
        """Yield each group with what is visible of it; None if that is less than two masters."""
        for groups in self._found.walk(scan, order, after, fresh=fresh):
            ids = [UUID(bytes=id_) for group in groups for id_ in group.members]
            masters: dict[UUID, Master] = {}
            for collection_id in scan.collection_ids:
                masters |= self._metadata.find_masters(collection_id, ids)
            hidden = 0
            for group in groups:
                shown = _show(group, masters)
                hidden += shown is None
                yield group, shown
            self._found.note_hidden(scan, hidden)


def check_other_name(name: str, other: str) -> None:
    """Check the name of a second collection. Raises InvalidInput."""
    if other == name:
        detail = f"with names the collection {name} itself. Leave it out to compare within it."
        raise InvalidInput("invalid-request", detail)


class _Speeds:
    """How fast scans go, as this process sees it. Thread-safe enough: it only estimates."""

    def __init__(self) -> None:
        self._seen: dict[UUID, tuple[float, int]] = {}  # the time, and how many were compared

    def estimate(self, scan_id: UUID, checked: int, total: int) -> float | None:
        """Return the seconds that a scan still takes, or None before its speed is known."""
        now = time.monotonic()
        seen = self._seen.get(scan_id)
        if seen is None or seen[1] > checked or now - seen[0] > _OBSERVED:
            for old in [each for each, (then, _) in self._seen.items() if now - then > _OBSERVED]:
                self._seen.pop(old, None)
            self._seen[scan_id] = (now, checked)
            return None
        elapsed, done = now - seen[0], checked - seen[1]
        if elapsed < _SHORTEST or not done:
            return None
        return round((total - checked) * elapsed / done, 1)


def _check_masters(ids: Sequence[UUID]) -> list[UUID]:
    distinct = sorted(set(ids))
    if not 2 <= len(distinct) <= MOST_DECIDED:
        detail = f"masters takes the ids of 2 to {MOST_DECIDED} different masters."
        raise InvalidInput("invalid-request", detail)
    return distinct


def _show(group: DuplicateGroup, masters: dict[UUID, Master]) -> ShownGroup | None:
    """Return what is visible of a group, or None if that is less than two masters."""
    members = []
    numbers: list[tuple[int | None, float | None]] = [(None, None)]
    numbers += zip(group.common, group.distances, strict=True)
    for id_, (common, distance) in zip(group.members, numbers, strict=True):
        master = masters.get(UUID(bytes=id_))
        if master is not None:
            members.append(Member(master, common, distance))
    if len(members) < 2:
        return None
    return ShownGroup(UUID(bytes=group.representative), group.certainty, members)
