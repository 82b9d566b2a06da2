"""Uploads in the metadata database.

A row is reserved under a lease, then committed or abandoned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, past, retry_lost_transactions
from storage.errors import CollectionGone
from storage.metadata.registry import lock_live_models
from storage.metadata.rows import (
    COLLECTIONS,
    EMBEDDINGS,
    FREE_LEASE,
    LIVE,
    MASTERS,
    SELECT_MASTERS,
    capture_values,
    deleting_values,
    from_now,
    is_free,
    is_reserved_by,
    master_of,
    new_embedding,
)
from storage.records import Claim, Master, MasterState, NewMaster, Reservation, new_id
from storage.shared_calls import NotTogether, SharedCalls


@dataclass(frozen=True)
class NewUpload:
    """A row to be reserved for ``lease`` seconds."""

    collection_id: UUID
    new: NewMaster
    owner: str
    lease: float


@dataclass(frozen=True)
class StoredUpload:
    """A reserved row to be committed; ``owner`` indexes the ``versions`` for ``lease`` seconds."""

    master_id: UUID
    owner: str
    versions: tuple[str, ...]
    lease: float


# Statements of every upload are made once, because making one takes longer than running it.
_LOCK_COLLECTION = (
    sa.select(COLLECTIONS.c.name, now().label("clock"))
    .where(COLLECTIONS.c.id == sa.bindparam("collection"), COLLECTIONS.c.state == LIVE)
    .with_for_update(read=True)
)
_FIND_ROWS = SELECT_MASTERS.add_columns(is_free(MASTERS.c.lease_until).label("free")).where(
    MASTERS.c.collection_id == sa.bindparam("collection"),
    MASTERS.c.live_sha256.in_(sa.bindparam("hashes", expanding=True)),
)
_INSERT_MASTERS = MASTERS.insert()
# The masters that a live collection has. Without the hint, a small table would be read as a whole,
# and the statement would wait for every row that another transaction has locked.
_LOCK_OF_LIVE = (
    sa.select(MASTERS.c.id)
    .join(COLLECTIONS, COLLECTIONS.c.id == MASTERS.c.collection_id)
    .where(MASTERS.c.id.in_(sa.bindparam("ids", expanding=True)), COLLECTIONS.c.state == LIVE)
    .with_hint(MASTERS, "FORCE INDEX (PRIMARY)", "mysql")
    .with_for_update(read=True)
)
_STORE = (
    MASTERS.update()
    .where(
        MASTERS.c.id.in_(sa.bindparam("ids", expanding=True)),
        sa.tuple_(MASTERS.c.id, MASTERS.c.lease_owner).in_(sa.bindparam("held", expanding=True)),
        MASTERS.c.state == MasterState.PENDING,
    )
    .values(**FREE_LEASE | {"state": MasterState.STORED})
)
_INSERT_EMBEDDINGS = EMBEDDINGS.insert()


@retry_lost_transactions
class SqlUploads:
    """UploadStore on a SQL database."""

    _db: Database
    _reservations: SharedCalls[NewUpload, Reservation]  # for servers
    _commits: SharedCalls[StoredUpload, list[str] | None]  # for servers

    def reserve_master(
        self, collection_id: UUID, new: NewMaster, owner: str, lease: float
    ) -> Reservation:
        upload = NewUpload(collection_id, new, owner, lease)
        while True:
            try:
                if not self._db.embedded:
                    return self._reservations.send(upload, group=collection_id, key=new.sha256)
                return self._reserve_together([upload])[0]
            except sa.exc.IntegrityError:  # another replica inserted first; its row is there now
                continue

    def _reserve_together(self, uploads: list[NewUpload]) -> list[Reservation]:
        with self._db.write() as connection:
            return _reserve(connection, uploads)

    def renew_reservation(self, master_id: UUID, owner: str, lease: float) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                MASTERS.update()
                .where(is_reserved_by(master_id, owner, MasterState.PENDING))
                .values(lease_until=from_now(lease))
            )
        return result.rowcount == 1

    def commit_stored(
        self, master_id: UUID, owner: str, versions: Sequence[str], lease: float
    ) -> list[str] | None:
        upload = StoredUpload(master_id, owner, tuple(versions), lease)
        if not self._db.embedded:
            return self._commits.send(upload, key=master_id)
        return self._commit_together([upload])[0]

    def _commit_together(self, uploads: list[StoredUpload]) -> list[list[str] | None]:
        with self._db.write() as connection:
            return _store(connection, uploads)

    def abandon_reservation(self, master_id: UUID, owner: str) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                MASTERS.update()
                .where(is_reserved_by(master_id, owner, MasterState.PENDING))
                .values(**deleting_values())
            )
        return result.rowcount == 1

    def expire_reservations(self) -> int:
        expired = sa.and_(MASTERS.c.state == MasterState.PENDING, past(MASTERS.c.lease_until))
        with self._db.read() as connection:  # rarely any: check before taking the write lock
            if connection.execute(sa.select(MASTERS.c.id).where(expired).limit(1)).first() is None:
                return 0
        with self._db.write() as connection:
            return connection.execute(
                MASTERS.update().where(expired).values(**deleting_values())
            ).rowcount


def _reserve(connection: sa.Connection, uploads: list[NewUpload]) -> list[Reservation]:
    """Reserve rows for uploads of different bytes into one collection."""
    collection_id = uploads[0].collection_id
    collection = connection.execute(_LOCK_COLLECTION, {"collection": collection_id}).first()
    if collection is None:
        raise CollectionGone(str(collection_id))
    hashes = [upload.new.sha256 for upload in uploads]
    found = connection.execute(_FIND_ROWS, {"collection": collection_id, "hashes": hashes})
    existing = {row.sha256: row for row in found}
    reservations, rows = [], []
    for upload in uploads:
        if upload.new.sha256 in existing:
            row = existing[upload.new.sha256]
            reservations.append(_reserve_existing(connection, row, upload))
        else:
            columns = _columns_of(upload, collection.clock)
            rows.append(columns | _hidden_columns_of(upload, collection.clock))
            master = Master(collection=collection.name, **columns)
            reservations.append(Reservation(Claim.OURS, master))
    if rows:
        connection.execute(_INSERT_MASTERS, rows)
    return reservations


def _columns_of(upload: NewUpload, clock: int) -> dict[str, Any]:
    """Return the fields of a new master. ``clock`` is the database's time in milliseconds."""
    return vars(upload.new) | {
        "id": new_id(),
        "collection_id": upload.collection_id,
        "revision": 1,
        "state": MasterState.PENDING,
        "created_at": clock,
        "updated_at": clock,
    }


def _hidden_columns_of(upload: NewUpload, clock: int) -> dict[str, Any]:
    new = upload.new
    return (
        capture_values(new.capture, new.capture_reader)
        | {"live_sha256": new.sha256}
        | _lease_of(upload, clock)
    )


def _lease_of(upload: NewUpload | StoredUpload, clock: int) -> dict[str, Any]:
    return {"lease_owner": upload.owner, "lease_until": clock + int(upload.lease * 1000)}


def _reserve_existing(connection: sa.Connection, row: Any, upload: NewUpload) -> Reservation:
    """Say what an upload may do with a row that has its bytes, and take it over if it is free."""
    if row.state == MasterState.DAMAGED:
        return Reservation(Claim.DAMAGED, master_of(row))
    if row.state != MasterState.PENDING:
        return Reservation(Claim.EXISTS, master_of(row))
    if not row.free or not _take_over(connection, row.id, upload):
        return Reservation(Claim.BUSY, master_of(row))
    taken = connection.execute(SELECT_MASTERS.where(MASTERS.c.id == row.id)).one()
    return Reservation(Claim.OURS, master_of(taken))


def _store(connection: sa.Connection, uploads: list[StoredUpload]) -> list[list[str] | None]:
    """Commit reserved rows, and return the versions that each upload indexes itself.

    A lone upload whose row is not reserved any more gets None; several raise NotTogether then.
    """
    ids = [upload.master_id for upload in uploads]
    held = [(upload.master_id, upload.owner) for upload in uploads]
    is_complete = len(connection.execute(_LOCK_OF_LIVE, {"ids": ids}).all()) == len(
        ids
    ) and connection.execute(_STORE, {"ids": ids, "held": held}).rowcount == len(ids)
    if not is_complete:
        if len(ids) > 1:
            raise NotTogether
        return [None]
    live = lock_live_models(connection)
    embeddings = [
        new_embedding(upload.master_id, version)
        | {"run_after": clock}
        | (_lease_of(upload, clock) if version in upload.versions else FREE_LEASE)
        for upload in uploads
        for version, clock in live.items()
    ]
    if embeddings:
        connection.execute(_INSERT_EMBEDDINGS, embeddings)
    return [[version for version in upload.versions if version in live] for upload in uploads]


def _take_over(connection: sa.Connection, master_id: UUID, upload: NewUpload) -> bool:
    """Take over the row of an upload whose lease expired.

    Returns False if another process was faster.
    """
    new = upload.new
    taken = connection.execute(
        MASTERS.update()
        .where(
            MASTERS.c.id == master_id,
            MASTERS.c.state == MasterState.PENDING,
            is_free(MASTERS.c.lease_until),
        )
        .values(
            name=new.name,
            attributes=new.attributes,
            lease_owner=upload.owner,
            lease_until=from_now(upload.lease),
            updated_at=now(),
            **capture_values(new.capture, new.capture_reader),
        )
    )
    return taken.rowcount == 1
