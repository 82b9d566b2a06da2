"""The metadata database: the source of truth about collections, masters and embeddings.

These rules hold for every method of every protocol in this module:

- A method is one transaction. It has happened as a whole when it returns, and not at all when it
  raises.
- Leases, delays and durations are in seconds. Moments are compared on the database's clock, so the
  clocks of the processes need not agree. A lease has an owner, a string that is unique to one
  upload, request or process.
- Every method may raise StoreUnavailable, if the database does not answer or refuses; the same call
  may succeed later. The docstring of a method names its other errors.
- An empty sequence of ids or versions selects nothing: the method returns an empty result.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol
from uuid import UUID

from storage.protocols.captures import CaptureStore
from storage.protocols.changes import ChangeStore
from storage.protocols.decision_records import DecisionRecordStore
from storage.protocols.deletions import DeletionStore
from storage.protocols.duplicates import DuplicateStore
from storage.protocols.lists import ListStore
from storage.records import (
    Attributes,
    Collection,
    DeadLetter,
    IndexTask,
    Master,
    MasterRecord,
    MasterRevision,
    NewMaster,
    Reservation,
)


class CollectionStore(Protocol):
    """Collections. A live collection owns its name; a deleted one is drained in the background."""

    def create_collection(self, name: str) -> Collection:
        """Create a collection and return it.

        Raises CollectionExists if a live collection has the name, and CollectionGone if the new one
        was deleted before it could be read back.
        """

    def find_collection(self, name: str) -> Collection | None:
        """Return the live collection of that name, or None."""

    def list_collections(self) -> list[tuple[Collection, int]]:
        """Return the live collections by name, each with its number of stored masters."""

    def delete_collection(self, name: str) -> bool:
        """Delete the live collection of that name; return False if there is none.

        Its name is free and its masters are hidden at once. ``drain_collections`` removes them.
        """

    def empty_collection(self, name: str) -> bool:
        """Delete the live collection and create an empty one of the same name in its place.

        Both are one commit, so that the name is never without a collection. Returns False if there
        is none.
        """

    def drain_collections(self, limit: int) -> int:
        """Move up to ``limit`` masters of deleted collections to `deleting`; return their number.

        Masters that were removed before count as well: their deletion cannot be undone any more. A
        deleted collection without masters is removed. A collection is complete when a call
        returns 0 and its masters have been forgotten.
        """


class UploadStore(Protocol):
    """Uploads. A row is reserved under a lease, its bytes are written, then it is committed."""

    def reserve_master(
        self, collection_id: UUID, new: NewMaster, owner: str, lease: float
    ) -> Reservation:
        """Reserve the row for these bytes in this collection, and return what the caller may do.

        If no live row has the same SHA-256, a new `pending` row is inserted and leased to ``owner``
        (Claim.OURS). A `pending` row whose lease expired is taken over, with the caller's name and
        attributes. Otherwise the claim describes the existing row, which stays as it is. Concurrent
        calls agree: exactly one of them gets Claim.OURS. Raises CollectionGone if the collection is
        not live.
        """

    def renew_reservation(self, master_id: UUID, owner: str, lease: float) -> bool:
        """Extend the lease of a `pending` row to ``lease`` seconds from now.

        Returns False if the row is no longer `pending` or no longer leased to ``owner``.
        """

    def commit_stored(
        self, master_id: UUID, owner: str, versions: Sequence[str], lease: float
    ) -> list[str] | None:
        """Turn a reserved row into a stored master, which acknowledges the upload.

        The same commit adds one `pending` embedding for each live model version. Those of
        ``versions`` that are live are leased to ``owner``, who indexes them next, and returned in
        the order given; with an empty ``versions`` the workers index all of them. Returns None and
        changes nothing if the row is no longer reserved by ``owner`` or its collection was deleted.
        """

    def abandon_reservation(self, master_id: UUID, owner: str) -> bool:
        """Move a reserved row to `deleting` after its upload failed.

        Returns False if the row is no longer `pending` or no longer leased to ``owner``.
        """

    def expire_reservations(self) -> int:
        """Move every `pending` row whose lease expired to `deleting`, and return their number."""


class MasterStore(Protocol):
    """Masters whose upload was acknowledged.

    A master is visible if it is stored in a live collection.
    """

    def find_master(self, master_id: UUID) -> Master | None:
        """Return the visible master with that id, or None."""

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        """Return the visible master with those bytes in the live collection of that name, or None.

        ``sha256`` is the digest of 32 bytes.
        """

    def is_taken(self, collection: str, sha256: bytes) -> bool:
        """Report whether a master with those bytes is in the live collection of that name.

        Masters that are hidden because their bytes are lost count, and those that are just being
        uploaded. Masters that are being deleted do not.
        """

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        """Return the masters with these ids that are visible in the collection, by id."""

    def update_master(
        self,
        master_id: UUID,
        *,
        name: str | None,
        attributes: Attributes | None,
        revisions: Container[int] | None = None,
    ) -> Master | None:
        """Change a visible master and return it, or None if there is no such master.

        Raises MasterChanged if the master has none of the ``revisions``; None allows any.

        None leaves a value as it is; ``attributes`` replaces all of them, and an empty dict removes
        them. The revision is raised by one and every embedding becomes `pending`, even if nothing
        was given. Leases on embeddings stay; their holders notice the new revision.
        """

    def mark_damaged(self, master_id: UUID) -> bool:
        """Move a `stored` master to `damaged`; return False if it is not `stored`.

        A damaged master is hidden until its bytes are uploaded again.
        """

    def restore_damaged(self, master_id: UUID) -> bool:
        """Move a `damaged` master back to `stored`; return False if it is not `damaged`.

        Its file counts as unread.
        """

    def delete_master(self, master_id: UUID, revisions: Container[int] | None = None) -> bool:
        """Delete a stored or damaged master of a live collection, which acknowledges the deletion.

        Raises MasterChanged if the master has none of the ``revisions``; None allows any.

        The row becomes `deleting`: it is hidden, and its bytes may be uploaded again at once.
        Returns False if there is no such master.
        """

    def claim_deleting(self, owner: str, limit: int, lease: float) -> list[Master]:
        """Lease up to ``limit`` free `deleting` rows to ``owner``, and return them."""

    def forget_master(self, master_id: UUID, owner: str) -> None:
        """Remove a `deleting` row and what belongs to it, which is the last step of a deletion.

        Nothing happens unless ``owner`` holds the row's lease.
        """


class EmbeddingOutbox(Protocol):
    """Embeddings to index: one row per master and model version, each with a lease of its own."""

    def claim_embeddings(
        self, versions: Sequence[str], owner: str, limit: int, lease: float
    ) -> list[IndexTask]:
        """Lease up to ``limit`` pending embeddings of stored masters to ``owner``.

        It selects embeddings of ``versions`` that are due and that nobody holds, those that have
        been due longest first. Concurrent calls never return the same embedding.
        """

    def claim_embedding(self, master_id: UUID, version: str, owner: str, lease: float) -> bool:
        """Lease one pending embedding, or extend the lease that ``owner`` holds.

        Returns False if another owner holds it, or if it is not `pending` or does not exist.
        """

    def reserve_write(self, task: IndexTask, owner: str, lease: float) -> bool:
        """Lease a pending embedding for the write of its vector, which follows at once.

        A lease of another owner is taken over, because both would write the same: the master must
        still be stored and have the revision of ``task.master``. Otherwise the result is False, and
        a lease that ``owner`` holds is released.
        """

    def is_indexed(self, master_id: UUID, version: str) -> bool:
        """Return whether the current revision of the master is indexed by that version."""

    def mark_indexed(self, task: IndexTask, owner: str) -> bool:
        """Mark an embedding as indexed at the revision of ``task.master``, and release its lease.

        If the master has changed since, or is no longer stored, only the lease is released, and the
        result is False. It is also False if ``owner`` no longer holds the lease. If both is so, the
        vector that was written may have replaced a newer one: the embedding becomes `pending`, and
        a lease that another owner holds ends, so that the newest revision is written again.
        """

    def retry_embedding(
        self, task: IndexTask, owner: str, failure: str, delay: float | None
    ) -> None:
        """Count a failed attempt and release the lease.

        The embedding is due again after ``delay`` seconds; None makes it a dead letter. The first
        500 characters of ``failure`` are stored. Nothing happens unless ``owner`` holds the lease.
        """

    def release_embedding(self, task: IndexTask, owner: str, delay: float) -> None:
        """Release the lease without counting an attempt.

        The embedding is due again after ``delay`` seconds. This is meant for failures that the
        master did not cause, such as a store that is down. Nothing happens unless ``owner`` holds
        the lease.
        """

    def requeue_embedding(
        self, master_id: UUID, version: str, indexed_revision: int | None
    ) -> bool:
        """Make an embedding of a stored master `pending` if it is still as the caller saw it.

        ``indexed_revision`` is the revision that was indexed. None means that there was no row; one
        is added. Returns False if the master is not stored or the embedding has changed.
        """

    def list_dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters, those of the oldest masters first."""

    def requeue_dead_letters(self) -> int:
        """Make every dead letter `pending` and due, with no attempts; return their number."""

    def count_pending_embeddings(self) -> int:
        """Return the number of pending embeddings, of all versions."""

    def count_dead_letters(self) -> int:
        """Return the number of dead letters, of all versions."""


class LeaseStore(Protocol):
    """Leases by name, for work that one process at a time may do."""

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Acquire or extend the lease; return False while another owner holds it."""

    def release_lease(self, name: str, owner: str) -> None:
        """Release the lease. Nothing happens unless ``owner`` holds it."""

    def is_leased(self, name: str) -> bool:
        """Return whether anybody holds the lease."""

    def find_lease_end(self, name: str) -> int | None:
        """Return when the lease ends or ended, in milliseconds since 1970.

        Returns None if nobody has held it, or its last holder released it.
        """

    def release_owned_leases(self, owner: str) -> None:
        """Release the leases of masters and embeddings that ``owner`` holds, for a graceful stop.

        Leases by name are left alone.
        """


class RecordStore(Protocol):
    """Whole records of masters, used to check the stores and to copy installations."""

    def list_records(
        self, after: UUID | None, limit: int, collection_id: UUID | None = None
    ) -> list[MasterRecord]:
        """Return up to ``limit`` stored and damaged masters of live collections, ordered by id.

        The list begins after the id ``after``, or with the first if that is None. ``collection_id``
        restricts it to one collection.
        """

    def list_revisions(
        self, collection_id: UUID, after: UUID | None, limit: int
    ) -> list[MasterRevision]:
        """Return the revisions of up to ``limit`` stored and damaged masters, ordered by id.

        The list begins after the id ``after``, or with the first if that is None. The method does
        not check that the collection is live; the caller must know.
        """

    def find_records(self, ids: Sequence[UUID]) -> dict[UUID, MasterRecord]:
        """Return the rows with these ids, by id, in any state and also in deleted collections."""

    def count_unfinished(self) -> int:
        """Return how many masters are unfinished: `pending` or `deleting`.

        Deleted collections that are not drained yet are added to the number.
        """

    def import_collection(self, collection: Collection) -> None:
        """Insert a collection with its id and time of creation; do nothing if it exists already.

        Raises CollectionExists if a different collection has the name.
        """

    def import_records(self, records: Sequence[MasterRecord]) -> None:
        """Insert the records unchanged, with ids, states and embeddings: all of them or none.

        A record replaces the row with the same id. Raises MasterExists if another master of the
        collection has the same bytes, or if the collection does not exist.
        """


class IdentityStore(Protocol):
    """The id of the database, which its bucket stores as well."""

    def find_database_id(self) -> str | None:
        """Return the id, or None if the database has none."""

    def claim_database_id(self, id_: str) -> str:
        """Set the id unless the database has one, and return the one that it has afterwards."""


class MetadataStore(
    CollectionStore,
    UploadStore,
    MasterStore,
    EmbeddingOutbox,
    LeaseStore,
    RecordStore,
    IdentityStore,
    CaptureStore,
    ChangeStore,
    DuplicateStore,
    DeletionStore,
    DecisionRecordStore,
    ListStore,
    Protocol,
):
    """The metadata database as a whole."""

    def upgrade_schema(self) -> None:
        """Upgrade the schema to the newest version; do nothing if it is up to date."""

    def ping(self) -> None:
        """Raise StoreUnavailable if the database does not answer."""

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards."""
