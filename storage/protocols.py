"""What a storage backend promises: one protocol per store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.filters import Filter
from storage.records import (
    Attributes,
    Collection,
    DeadLetter,
    IndexTask,
    Master,
    MasterRecord,
    ModelVersion,
    NewMaster,
    ObjectInfo,
    Page,
    Replica,
    Reservation,
    VectorHit,
    VectorRecord,
)


class MetadataStore(Protocol):
    """The source of truth. Every method is one transaction; leases are in seconds, on the database's clock."""

    def migrate(self) -> None:
        """Bring the schema to the newest version."""

    def ping(self) -> None: ...

    def close(self) -> None: ...

    # collections
    def create_collection(self, name: str) -> Collection:
        """Raises CollectionExists."""

    def find_collection(self, name: str) -> Collection | None:
        """The live collection of that name."""

    def list_collections(self) -> list[tuple[Collection, int]]:
        """Live collections by name, each with its number of stored masters."""

    def delete_collection(self, name: str) -> bool:
        """Commit the deletion; the name is free at once, the masters are drained later. False if there is none."""

    def empty_collection(self, name: str) -> bool:
        """Delete the collection and put a new one in its place, as one commit. False if there is none."""

    def drain_collections(self, limit: int) -> int:
        """Move up to ``limit`` masters of deleted collections to `deleting`, drop emptied ones; the number moved."""

    # masters
    def reserve(self, collection_id: UUID, new: NewMaster, owner: str, lease: float) -> Reservation:
        """Insert the row as `pending`, or say who has it; a run-out lease is taken over. Raises CollectionGone."""

    def renew(self, master_id: UUID, owner: str, lease: float) -> bool:
        """Prolong the lease of a `pending` master; False if it is no longer the owner's."""

    def commit_stored(
        self, master_id: UUID, owner: str, versions: Sequence[str], lease: float
    ) -> list[str] | None:
        """`pending` -> `stored` on exactly the owned row of a live collection, with one embedding per live model version.

        Those of ``versions`` that are live are leased to the owner, who is going to index them now, and returned; None if the
        row is no longer the owner's.
        """

    def abandon(self, master_id: UUID, owner: str) -> bool:
        """`pending` -> `deleting` by its owner, after a failed upload."""

    def expire_pending(self) -> int:
        """`pending` -> `deleting` where the lease has run out; the number of rows."""

    def find_master(self, master_id: UUID) -> Master | None:
        """A stored master of a live collection."""

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        """The stored master with that content in the live collection of that name."""

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        """Those of the ids that are stored in that live collection."""

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: UUID | None,
        offset: int = 0,
    ) -> Page:
        """Stored masters, newest first, behind the cursor ``after``, without the first ``offset`` of them."""

    def count_masters(self, collection_id: UUID, filter: Filter | None) -> int: ...

    def list_attributes(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[tuple[UUID, Attributes]]:
        """Ids and attributes of stored masters, newest first, behind ``after``."""

    def update_master(
        self, master_id: UUID, *, name: str | None, attributes: Attributes | None
    ) -> Master | None:
        """Change what is given, raise the revision and set the embeddings `pending`; None if it is not there."""

    def delete_master(self, master_id: UUID) -> bool:
        """Commit the deletion (the acknowledgement); False if it is not there."""

    def claim_deleting(self, owner: str, limit: int, lease: float) -> list[Master]: ...

    def forget_master(self, master_id: UUID, owner: str) -> None:
        """Remove the row of a `deleting` master and its embeddings: the last step of a deletion."""

    # embeddings
    def claim_embeddings(
        self, versions: Sequence[str], owner: str, limit: int, lease: float
    ) -> list[IndexTask]:
        """Lease pending embeddings that are due, oldest first."""

    def claim_embedding(self, master_id: UUID, version: str, owner: str, lease: float) -> bool:
        """Lease one pending embedding; False if somebody else has it or it is done."""

    def is_indexed(self, master_id: UUID, version: str) -> bool: ...

    def mark_indexed(self, task: IndexTask, owner: str) -> bool:
        """`pending` -> `indexed` if the revision that was written is still the current one and the master is stored."""

    def retry_embedding(
        self, task: IndexTask, owner: str, failure: str, delay: float | None
    ) -> None:
        """Count a failed attempt and hand the lease back; due again after ``delay`` seconds, or a dead letter (None)."""

    def hand_back_embedding(self, task: IndexTask, owner: str, delay: float) -> None:
        """Hand the lease back; due after ``delay`` seconds. The attempt does not count: it was not the master's fault."""

    def list_dead(self, limit: int) -> list[DeadLetter]:
        """Embeddings that were given up, oldest master first."""

    def revive_dead(self) -> int:
        """Make all dead letters `pending` again; their number."""

    def count_pending(self) -> int: ...

    def count_dead(self) -> int: ...

    def release_leases(self, owner: str) -> None:
        """Hand back all that ``owner`` holds, at a graceful stop."""

    # moving to another database
    def count_unfinished(self) -> int:
        """Masters `pending` or `deleting`, and collections not drained yet."""

    def adopt_collection(self, collection: Collection) -> None:
        """Insert it as it is, with its id; nothing if it is there. Raises CollectionExists if another one has the name."""

    def walk_masters(
        self, after: UUID | None, limit: int, collection_id: UUID | None = None
    ) -> list[MasterRecord]:
        """Stored and damaged masters of live collections, or of one, by id, behind ``after``."""

    def adopt_masters(self, records: Sequence[MasterRecord]) -> None:
        """Insert all as they are, with their ids, in the place of those with the same ids, or none. Raises MasterExists."""

    # check and repair
    def know_masters(self, ids: Sequence[UUID]) -> dict[UUID, MasterRecord]:
        """Those of the ids that have a row, in whatever state, in collections that are deleted, too."""

    def mark_damaged(self, master_id: UUID) -> bool:
        """`stored` -> `damaged`: it is not shown and not found until its bytes are put in again."""

    def heal(self, master_id: UUID) -> bool:
        """`damaged` -> `stored`."""

    def requeue_embedding(
        self, master_id: UUID, version: str, indexed_revision: int | None
    ) -> bool:
        """`indexed` at that revision, or without a row (None) -> `pending`; False if that is no longer so."""

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Hold or prolong the lease of that name; False while somebody else holds it."""

    def release_lease(self, name: str, owner: str) -> None: ...

    def is_leased(self, name: str) -> bool:
        """Whether somebody holds the lease of that name."""


class ModelRegistry(Protocol):
    """Which model versions there are, who has loaded them, and how far their embeddings are. Every method is one transaction.

    building -> active <-> previous -> retired -> (gone); building, active and previous are live: every upload gets an embedding
    of each.
    """

    def models(self) -> list[ModelVersion]:
        """All of them, the active one first, then previous, building, retired."""

    def active(self) -> str | None: ...

    def register_active(self, version: str) -> str:
        """Make ``version`` the active one if there is none; the active one."""

    def replace_active(self, version: str) -> None:
        """Make ``version`` the active one, and forget all others: for stores that nobody serves from."""

    def start(self, version: str) -> None:
        """-> `building`; nothing if it is. Raises ModelConflict if another one is, or if it is live or being removed."""

    def backfill(self, version: str, after: UUID | None, limit: int) -> UUID | None:
        """Give up to ``limit`` masters behind ``after``, by id, a pending embedding if they have none; the last one looked at.

        None when there are no more. Masters that come later get theirs when they are stored.
        """

    def count(self, version: str) -> dict[str, int]:
        """Its embeddings by state: pending, indexed, dead."""

    def activate(self, version: str) -> None:
        """`building` or `previous` -> `active`, and the active one -> `previous`, if every running replica has loaded it and no
        stored master lacks a current embedding; else raises ModelNotReady, or ModelConflict if its state forbids it.

        What an upload or a change that has not been answered yet holds the lease of is not lacking, and neither is what is a
        dead letter under the active version, too.
        """

    def retire(self, version: str) -> None:
        """`building` or `previous` -> `retired`. Raises ModelConflict."""

    def drain(self, version: str, limit: int) -> int:
        """Remove up to ``limit`` embeddings of a retired version; the number left. Those leased are left until they are free."""

    def forget(self, version: str) -> None:
        """Remove a retired version that has no embeddings left."""

    def heartbeat(self, replica: str, loaded: Sequence[str], seconds: float) -> None:
        """The process runs, and will have said so again within that time; those not heard of for a day are forgotten."""

    def leave(self, replica: str) -> None: ...

    def replicas(self) -> list[Replica]:
        """The processes that run, by their heartbeats."""


class ObjectStore(Protocol):
    """Bytes under keys. A put is durable when it returns; putting the same key again replaces it whole."""

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None: ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Chunks from ``offset``; raises ObjectMissing before the first chunk."""

    def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing."""

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        """An address that gives anybody the object for some minutes, with these headers; None where clients cannot reach it."""

    def delete(self, key: str) -> None:
        """A key that is not there is no error."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]: ...

    def ping(self) -> None: ...

    def close(self) -> None: ...


class VectorStore(Protocol):
    """Vectors of each model version apart from the others'. A search sees every upsert that returned before it."""

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None: ...

    def delete(self, version: str, ids: Sequence[UUID]) -> None: ...

    def versions(self) -> list[str]: ...

    def drop(self, version: str) -> None:
        """Forget a model version with all its vectors."""

    def walk(self, version: str) -> Iterator[list[UUID]]:
        """All ids, by and by; those that come or go meanwhile may be among them or not."""

    def get(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]: ...

    def search(
        self,
        version: str,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None = None,
        max_distance: float | None = None,
    ) -> list[VectorHit]:
        """The nearest first, ties by id; ``max_distance`` is inclusive."""

    def count(self, version: str) -> int: ...

    def ping(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Stores:
    metadata: MetadataStore
    registry: ModelRegistry
    objects: ObjectStore
    vectors: VectorStore

    def close(self) -> None:
        self.vectors.close()
        self.objects.close()
        self.metadata.close()
