"""The rows that the metadata store and the model registry share, with a lock and a clock."""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, TypeVar
from uuid import UUID

from storage.protocols import NewDeletion
from storage.protocols.duplicates import DecidedPair, DuplicatePair, DuplicateScan, IdPair
from storage.records import (
    FARTHEST,
    Attributes,
    Collection,
    Master,
    MasterState,
    ModelState,
    new_id,
)

KEPT = (MasterState.STORED, MasterState.DAMAGED)  # states of a master whose upload was acknowledged
GONE = (MasterState.REMOVED, MasterState.DELETING)  # states in which the bytes are free
LIVE_MODELS = (ModelState.BUILDING, ModelState.ACTIVE, ModelState.PREVIOUS)
PENDING, INDEXED, DEAD = "pending", "indexed", "dead"  # states of an embedding


@dataclass
class Leased:
    """A row that one owner at a time may hold. ``until`` is in milliseconds since 1970."""

    owner: str | None = None
    until: int | None = None

    def hold(self, owner: str, until: int) -> None:
        self.owner, self.until = owner, until

    def release(self) -> None:
        self.owner, self.until = None, None


@dataclass
class CollectionRow:
    collection: Collection
    live: bool = True


@dataclass
class MasterRow(Leased):
    master: Master = field(kw_only=True)
    deletion_id: UUID | None = None

    def change(self, **changes: Any) -> None:
        self.master = replace(self.master, **changes)

    def read(self) -> Master:
        """Return the master with copies of its JSON objects, which the caller may change."""
        objects = {name: getattr(self.master, name) for name in ("attributes", "capture")}
        return replace(self.master, **copy.deepcopy(objects))


@dataclass
class EmbeddingRow(Leased):
    master_id: UUID = field(kw_only=True)
    version: str = field(kw_only=True)
    run_after: int = field(kw_only=True)
    state: str = PENDING
    indexed_revision: int | None = None
    attempts: int = 0
    failure: str = ""

    def queue(self, now: int) -> None:
        """Make the embedding pending and due, without attempts; a lease on it stays."""
        self.state, self.attempts, self.run_after = PENDING, 0, now


@dataclass
class ModelRow:
    state: ModelState
    created_at: int
    space: str


@dataclass
class DeletionRow:
    deletion: NewDeletion
    created_at: int
    undo_until: int
    # The attributes from before of masters that were kept, and the revision after it, by id.
    merged: dict[UUID, tuple[Attributes, int]] = field(default_factory=dict)


@dataclass
class ReplicaRow:
    loaded: list[str]
    until: int


class MemoryTables:
    """Every row by its primary key. Each method of a store holds the lock: it is a transaction."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self.collections: dict[UUID, CollectionRow] = {}
        self.masters: dict[UUID, MasterRow] = {}
        self.embeddings: dict[tuple[UUID, str], EmbeddingRow] = {}
        self.leases: dict[str, Leased] = {}
        self.deletions: dict[UUID, DeletionRow] = {}
        self.models: dict[str, ModelRow] = {}
        self.replicas: dict[str, ReplicaRow] = {}
        self.decisions: dict[IdPair, DecidedPair] = {}
        self.features: dict[UUID, tuple[int, bytes]] = {}  # the format, and the features
        self.scans: dict[UUID, DuplicateScan] = {}
        self.checks: dict[tuple[UUID, UUID], str] = {}  # model versions by scan and master
        self.pairs: dict[tuple[UUID, IdPair], DuplicatePair] = {}  # by scan and masters
        self.database_id: str | None = None
        self._clock = clock
        self._last_id = UUID(int=0)

    def next_id(self) -> UUID:
        """Return a new id that sorts after all earlier ones, also within one millisecond."""
        self._last_id = max(new_id(), UUID(int=self._last_id.int + 1))
        return self._last_id

    def now(self) -> int:
        """Return the current time in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def from_now(self, seconds: float) -> int:
        return self.now() + int(seconds * 1000)

    def past(self, moment: int) -> bool:
        """Return whether a moment has passed, or is so far ahead that the clock was set back."""
        return moment <= self.now() or moment > self.from_now(FARTHEST)

    def is_free(self, row: Leased) -> bool:
        return row.until is None or self.past(row.until)

    def is_visible(self, row: MasterRow) -> bool:
        return row.master.state is MasterState.STORED and self.is_in_live_collection(row)

    def is_in_live_collection(self, row: MasterRow) -> bool:
        return self.collections[row.master.collection_id].live

    def find_visible(self, master_id: UUID) -> MasterRow | None:
        row = self.masters.get(master_id)
        return row if row is not None and self.is_visible(row) else None

    def find_live(self, name: str) -> CollectionRow | None:
        """Return the row of the live collection of that name."""
        rows = self.collections.values()
        return next((row for row in rows if row.live and row.collection.name == name), None)

    def find_live_hash(self, collection_id: UUID, sha256: bytes) -> MasterRow | None:
        """Return the row of these bytes that is not deleted; there is at most one."""
        for row in self.masters.values():
            same = (row.master.collection_id, row.master.sha256) == (collection_id, sha256)
            if same and row.master.state not in GONE:
                return row
        return None

    def mark_deleting(self, row: MasterRow) -> None:
        row.release()
        row.deletion_id = None
        row.change(state=MasterState.DELETING, updated_at=self.now())

    def add_embedding(self, master_id: UUID, version: str) -> EmbeddingRow:
        """Add a pending embedding, which is due at once."""
        row = EmbeddingRow(master_id=master_id, version=version, run_after=self.now())
        self.embeddings[master_id, version] = row
        return row

    def embeddings_of(self, master_id: UUID) -> list[EmbeddingRow]:
        return [row for row in self.embeddings.values() if row.master_id == master_id]

    def remove_master(self, master_id: UUID) -> None:
        """Remove a master's row, if there is one, and its embeddings."""
        self.masters.pop(master_id, None)
        for row in self.embeddings_of(master_id):
            del self.embeddings[master_id, row.version]

    def forget_duplicates(self, master_id: UUID) -> None:
        """Remove what is known about a master's duplicates."""
        self.features.pop(master_id, None)
        self._forget_checks(master_id)
        for key in [key for key in self.pairs if master_id in key[1]]:
            del self.pairs[key]
        for pair in [pair for pair in self.decisions if master_id in pair]:
            del self.decisions[pair]

    def compare_again(self, row: MasterRow) -> None:
        """Let scans compare a master again that has become visible."""
        self._forget_checks(row.master.id)
        for scan in self.scans.values():
            if row.master.collection_id in scan.collection_ids:
                self.scans[scan.id] = replace(scan, changes=scan.changes + 1, completed_at=None)

    def _forget_checks(self, master_id: UUID) -> None:
        for key in [key for key in self.checks if key[1] == master_id]:
            del self.checks[key]

    def count_change(self, collection_ids: set[UUID]) -> None:
        """Raise the changes of the scans of these collections by one."""
        for scan in self.scans.values():
            if collection_ids & set(scan.collection_ids):
                self.scans[scan.id] = replace(scan, changes=scan.changes + 1)


class OnTables:
    """A store on these tables."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables


_Store = TypeVar("_Store", bound=type)


def hold_the_lock(store: _Store) -> _Store:
    """Class decorator: every public method holds the lock of the tables while it runs."""

    def locked(method: FunctionType) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: OnTables, *args: Any, **kwargs: Any) -> Any:
            with self._tables.lock:
                return method(self, *args, **kwargs)

        return call

    for name, method in list(vars(store).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(store, name, locked(method))
    return store
