"""Uploads in the metadata database.

A row is reserved under a lease, then committed or abandoned.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    lock_live_collection,
    master_of,
    new_embedding,
)
from storage.records import Claim, Master, MasterState, NewMaster, Reservation, new_id


@retry_lost_transactions
class SqlUploads:
    """UploadStore on a SQL database."""

    _db: Database

    def reserve_master(
        self, collection_id: UUID, new: NewMaster, owner: str, lease: float
    ) -> Reservation:
        while True:
            try:
                with self._db.write() as connection:
                    return _reserve(connection, collection_id, new, owner, lease)
            except sa.exc.IntegrityError:  # another replica inserted first; its row is there now
                continue

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
        stored = FREE_LEASE | {"state": MasterState.STORED}
        leased = {"lease_owner": owner, "lease_until": from_now(lease)}
        with self._db.write() as connection:
            if not lock_live_collection(connection, master_id):
                return None
            result = connection.execute(
                MASTERS.update()
                .where(is_reserved_by(master_id, owner, MasterState.PENDING))
                .values(**stored)
            )
            if result.rowcount != 1:
                return None
            live = lock_live_models(connection)
            for version in live:
                embedding = new_embedding(master_id, version)
                if version in versions:
                    embedding |= leased
                connection.execute(EMBEDDINGS.insert().values(embedding))
        return [version for version in versions if version in live]

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


def _reserve(
    connection: sa.Connection, collection_id: UUID, new: NewMaster, owner: str, lease: float
) -> Reservation:
    live = sa.select(COLLECTIONS.c.name, now()).where(
        COLLECTIONS.c.id == collection_id, COLLECTIONS.c.state == LIVE
    )
    collection = connection.execute(live.with_for_update(read=True)).first()
    if collection is None:
        raise CollectionGone(str(collection_id))
    same_bytes = sa.and_(
        MASTERS.c.collection_id == collection_id, MASTERS.c.live_sha256 == new.sha256
    )
    existing = connection.execute(
        SELECT_MASTERS.add_columns(is_free(MASTERS.c.lease_until).label("free")).where(same_bytes)
    ).first()
    if existing is None:
        name, clock = collection
        return Reservation(
            Claim.OURS, _insert_pending(connection, collection_id, name, new, owner, clock, lease)
        )
    if existing.state == MasterState.DAMAGED:
        return Reservation(Claim.DAMAGED, master_of(existing))
    if existing.state != MasterState.PENDING:
        return Reservation(Claim.EXISTS, master_of(existing))
    if not existing.free or not _take_over(connection, existing.id, new, owner, lease):
        return Reservation(Claim.BUSY, master_of(existing))
    taken = connection.execute(SELECT_MASTERS.where(MASTERS.c.id == existing.id)).one()
    return Reservation(Claim.OURS, master_of(taken))


def _insert_pending(
    connection: sa.Connection,
    collection_id: UUID,
    collection: str,
    new: NewMaster,
    owner: str,
    clock: int,
    lease: float,
) -> Master:
    """Insert the row of a new upload. ``clock`` is the database's time in milliseconds."""
    columns: dict[str, Any] = vars(new) | {
        "id": new_id(),
        "collection_id": collection_id,
        "revision": 1,
        "state": MasterState.PENDING,
        "created_at": clock,
        "updated_at": clock,
    }
    leased = {"lease_owner": owner, "lease_until": clock + int(lease * 1000)}
    derived = capture_values(new.capture, new.capture_reader) | {"live_sha256": new.sha256}
    connection.execute(MASTERS.insert(), columns | derived | leased)
    return Master(collection=collection, **columns)


def _take_over(
    connection: sa.Connection, master_id: UUID, new: NewMaster, owner: str, lease: float
) -> bool:
    """Take over the row of an upload whose lease expired.

    Returns False if another process was faster.
    """
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
            lease_owner=owner,
            lease_until=from_now(lease),
            updated_at=now(),
            **capture_values(new.capture, new.capture_reader),
        )
    )
    return taken.rowcount == 1
