"""Deletions that can be undone: removing masters, restoring them, and ending the time for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from storage.records import Attributes


@dataclass(frozen=True)
class NewDeletion:
    """A deletion of masters that can be undone for ``seconds`` from its first removal on."""

    id: UUID
    collection_id: UUID
    reason: str  # at most 16 characters
    seconds: float


@dataclass(frozen=True)
class KeptMaster:
    """The master that stays of several, at the revision that was seen."""

    id: UUID
    revision: int
    attributes: Attributes | None = None  # new ones; None leaves them as they are


@dataclass(frozen=True)
class Removal:
    """Masters to remove together or not at all: their revisions, as they were seen, by id."""

    revisions: Mapping[UUID, int]
    kept: KeptMaster | None = None


@dataclass(frozen=True)
class Deletion:
    """A deletion that can be undone."""

    id: UUID
    collection: str  # name; if that was deleted, of another one from which masters are removed
    reason: str
    created_at: int  # milliseconds since 1970, UTC
    undo_until: int
    masters: int  # that are removed


@dataclass(frozen=True)
class Restored:
    """What was done with masters whose deletion was to be undone."""

    masters: set[UUID] = field(default_factory=set)
    # Those whose bytes were uploaded again: the id of the master that has them now.
    conflicts: dict[UUID, UUID] = field(default_factory=dict)
    held: set[UUID] = field(default_factory=set)  # a worker is at them just now


class DeletionStore(Protocol):
    """Deletions that can be undone. The masters of one are `removed` until its time is over."""

    def remove_masters(self, deletion: NewDeletion, removals: Sequence[Removal]) -> set[UUID]:
        """Remove masters in one transaction, which acknowledges it, and return their ids.

        A removal is carried out if each of its masters, and the one that is kept, is visible and
        has the revision that was seen; otherwise its masters stay as they are. A master belongs to
        one removal at most. The rows become `removed`: they are hidden, have no embeddings, and
        their bytes may be uploaded again. New attributes of a master that is kept raise its
        revision and make its embeddings `pending`; the earlier ones are stored for
        ``restore_attributes``. The first removal of a deletion inserts its row.
        """

    def find_deletion(self, deletion_id: UUID) -> Deletion | None:
        """Return a deletion that can still be undone, or None."""

    def list_deletions(self, collection_id: UUID | None, limit: int) -> list[Deletion]:
        """Return up to ``limit`` deletions with removed masters, the newest first.

        Masters of deleted collections do not count, and deletions whose time is over are left out.
        ``collection_id`` restricts the list to those that removed masters of one collection.
        """

    def list_removed(self, deletion_id: UUID) -> list[UUID]:
        """Return the removed masters of a deletion that can still be undone."""

    def restore_attributes(self, deletion_id: UUID) -> int:
        """Give the masters that were kept their earlier attributes back; return their number.

        One that was changed since stays as it is. An undo does this first: as long as any master is
        removed, the deletion is listed, and the undo can be repeated.
        """

    def restore_masters(self, deletion_id: UUID, ids: Sequence[UUID]) -> Restored:
        """Store those of the masters again that the deletion has removed.

        Their revisions are raised by one, and each gets a `pending` embedding of every live
        version. A master whose bytes another row of its collection has, or that a worker holds,
        stays as it is and is reported. One whose collection was deleted, or whose time is over,
        stays as it is. The row of the deletion goes with the last of its removed masters.
        """

    def claim_removed(self, owner: str, limit: int, lease: float) -> list[UUID]:
        """Lease up to ``limit`` free `removed` rows to ``owner``, who removes their vectors.

        Those that ``settle_removed`` has settled are not free.
        """

    def settle_removed(self, ids: Sequence[UUID], owner: str) -> None:
        """Record that the vectors of masters are gone.

        A row that ``owner`` does not hold any more stays as it is. If the master was restored
        meanwhile, the vector that was removed may be a new one: its embeddings become `pending`,
        and leases on them end.
        """

    def expire_deletions(self, limit: int) -> int:
        """Move up to ``limit`` masters of a deletion whose time is over to `deleting`.

        The row of the deletion goes with the last of them. Returns 0 if there was nothing to do.
        """
