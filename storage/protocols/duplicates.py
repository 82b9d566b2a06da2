"""Near-identical masters: features of their images, scans, and what people decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

IdPair = tuple[UUID, UUID]  # two masters, the smaller id first


class Decision(StrEnum):
    """What somebody decided about two masters that look alike. Neither is shown again."""

    DIFFERENT = "different"  # they do not show one photograph
    KEEP = "keep"  # they do, and both are to stay


@dataclass(frozen=True)
class DecidedPair:
    """What somebody decided about two masters."""

    masters: IdPair
    decision: Decision
    decided_at: int  # milliseconds since 1970, UTC


class DecisionStore(Protocol):
    """What people decided about pairs of masters, which may be in different collections."""

    def save_decisions(self, ids: Sequence[UUID], decision: Decision) -> set[UUID]:
        """Decide about every two of the masters, and return those of ``ids`` that do not exist.

        All of it is one commit, and replaces earlier decisions. If any of the masters is not
        visible, nothing is saved. The changes of the scans of their collections are raised by one.
        """

    def remove_decisions(self, ids: Sequence[UUID]) -> int:
        """Remove what was decided about every two of the masters; return the number of pairs.

        If there are any, the changes of the scans of their collections are raised by one.
        """

    def list_decisions(
        self, collection_ids: Sequence[UUID], limit: int, after: IdPair | None
    ) -> list[DecidedPair]:
        """Return up to ``limit`` decisions, ordered by the smaller id and then by the other one.

        It selects those of two visible masters of which one or both are in the collections. The
        list begins behind the pair ``after``, or with the first if that is None.
        """


@dataclass(frozen=True)
class DuplicateScan:
    """A search for near-identical masters in a collection, or between two."""

    id: UUID
    collection_id: UUID  # the smaller id of the two
    other_id: UUID  # the same id: within the collection
    space: str
    max_distance: float  # of vectors that are compared further; 0 to 2
    changes: int  # raised with each change of its pairs or of what was decided about them
    created_at: int  # milliseconds since 1970, UTC
    completed_at: int | None  # when all masters had been compared

    @property
    def collection_ids(self) -> list[UUID]:
        """The collections whose masters are compared: one or two."""
        return sorted({self.collection_id, self.other_id})


@dataclass(frozen=True)
class DuplicatePair:
    """Two masters that a scan found to show one photograph."""

    masters: IdPair
    common: int  # local features that they share
    distance: float  # of their vectors, 0 to 2


class RawPair(NamedTuple):
    """A pair with ids of 16 bytes, because UUIDs of a million pairs would take seconds to make."""

    first: bytes
    second: bytes
    common: int
    distance: float


@dataclass(frozen=True)
class Unchecked:
    """Which masters of a part of a collection a scan has not compared."""

    ids: list[UUID]  # those that can be compared now
    waiting: int  # number of those that are not indexed yet
    next_after: UUID | None  # where the next part begins; None at the end of the collection


class FeatureStore(Protocol):
    """Local features of masters' images; see ``models.local_features``."""

    def find_features(self, ids: Sequence[UUID], format: int) -> dict[UUID, bytes]:
        """Return the features of these masters that have that format, by id.

        Those of an image without corners are empty.
        """

    def save_features(self, features: Mapping[UUID, bytes], format: int) -> None:
        """Save or replace the features of masters, in one commit. Only visible ones are saved."""


class ScanStore(Protocol):
    """Scans, what they have compared, and the pairs that they found."""

    def start_scan(
        self, collection_id: UUID, other_id: UUID, space: str, max_distance: float
    ) -> DuplicateScan:
        """Return the scan of these collections in this space, which is complete no longer.

        The order of the collections does not matter. The scan is created if there is none, and
        replaced by a new one if it has another distance. Raises CollectionGone if a collection is
        not live.
        """

    def find_scan(self, collection_id: UUID, other_id: UUID, space: str) -> DuplicateScan | None:
        """Return the scan of two live collections, in any order, or None."""

    def list_scans(self) -> list[DuplicateScan]:
        """Return all scans of live collections, the oldest first."""

    def end_scan(self, scan_id: UUID) -> bool:
        """Remove a scan; return False if there is none. Decisions stay.

        ``remove_leftovers`` removes what it found.
        """

    def complete_scan(self, scan_id: UUID) -> None:
        """Note that a scan has compared all masters, unless it is noted already."""

    def remove_leftovers(self, limit: int) -> int:
        """Remove up to ``limit`` results of scans that are gone, and return their number."""

    def list_unchecked(
        self, scan_id: UUID, version: str, collection_id: UUID, after: UUID | None, limit: int
    ) -> Unchecked:
        """Return which of the next ``limit`` visible masters the scan has not compared.

        They are visited in the order of ids, beginning after the id ``after``, or with the first
        if that is None. A master that was compared by another model version counts as unchecked.
        One that has no embedding of ``version``, or a dead letter, is left out.
        """

    def save_checks(
        self, scan_id: UUID, version: str, ids: Sequence[UUID], pairs: Sequence[DuplicatePair]
    ) -> bool:
        """Save that masters were compared, and what was found, in one commit.

        A pair replaces an earlier one of the same masters. Masters that are not visible any more
        are left out, and so are their pairs. The changes of the scan are raised by one if its pairs
        changed. Returns False, and saves nothing, if the scan is gone.
        """

    def count_checked(self, scan_id: UUID, version: str) -> int:
        """Return how many masters were compared by that model version."""

    def count_pairs(self, scan_id: UUID) -> int:
        """Return the number of pairs, those of masters that are not visible included."""

    def list_pairs(self, scan_id: UUID, limit: int, after: IdPair | None) -> list[RawPair]:
        """Return up to ``limit`` pairs of visible masters, by the smaller id and then the other.

        The list begins behind the pair ``after``, or with the first if that is None.
        """


class DuplicateStore(DecisionStore, FeatureStore, ScanStore, Protocol):
    """All that is known about near-identical masters.

    What belongs to a master goes with ``forget_master``; a scan goes with one of its collections.
    ``restore_damaged`` and ``restore_masters`` let scans compare masters again: these are complete
    no longer, and their changes are raised by one. The former also forgets the features.
    """
