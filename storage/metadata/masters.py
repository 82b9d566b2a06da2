"""Stored masters in the metadata database: lookup, changes, damage and deletion."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.errors import MasterChanged
from storage.metadata.duplicate_scans import compare_again, forget_duplicates, forget_features
from storage.metadata.rows import (
    COLLECTIONS,
    EMBEDDINGS,
    IS_VISIBLE,
    KEPT,
    MASTERS,
    SELECT_MASTERS,
    deleting_values,
    find_by_ids,
    from_now,
    index_again,
    is_free,
    is_inside,
    is_reserved_by,
    lock_live_collection,
    master_of,
)
from storage.records import Attributes, Master, MasterState

# Made once, because making a statement takes longer than running it.
_FIND_BY_HASH = SELECT_MASTERS.where(
    COLLECTIONS.c.live_name == sa.bindparam("collection_name"),
    MASTERS.c.live_sha256 == sa.bindparam("hash"),
    IS_VISIBLE,
)
_FIND_TAKEN = (
    sa.select(MASTERS.c.id)
    .join(COLLECTIONS, COLLECTIONS.c.id == MASTERS.c.collection_id)
    .where(
        COLLECTIONS.c.live_name == sa.bindparam("collection_name"),
        MASTERS.c.live_sha256 == sa.bindparam("hash"),
    )
)


@retry_lost_transactions
class SqlMasters:
    """MasterStore on a SQL database."""

    _db: Database

    def find_master(self, master_id: UUID) -> Master | None:
        with self._db.read() as connection:
            row = connection.execute(
                SELECT_MASTERS.where(MASTERS.c.id == master_id, IS_VISIBLE)
            ).first()
        return master_of(row) if row else None

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        values = {"collection_name": collection, "hash": sha256}
        with self._db.read() as connection:
            row = connection.execute(_FIND_BY_HASH, values).first()
        return master_of(row) if row else None

    def is_taken(self, collection: str, sha256: bytes) -> bool:
        values = {"collection_name": collection, "hash": sha256}
        with self._db.read() as connection:
            return connection.execute(_FIND_TAKEN, values).first() is not None

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        with self._db.read() as connection:
            return find_by_ids(connection, ids, is_inside(collection_id))

    def update_master(
        self,
        master_id: UUID,
        *,
        name: str | None,
        attributes: Attributes | None,
        revisions: Container[int] | None = None,
    ) -> Master | None:
        changes: dict[str, Any] = {"updated_at": now(), "revision": MASTERS.c.revision + 1}
        if name is not None:
            changes["name"] = name
        if attributes is not None:
            changes["attributes"] = attributes
        with self._db.write() as connection:
            if not _lock_master(connection, master_id, (MasterState.STORED,), revisions):
                return None
            connection.execute(MASTERS.update().where(MASTERS.c.id == master_id).values(**changes))
            index_again(connection, [master_id])
            changed = connection.execute(SELECT_MASTERS.where(MASTERS.c.id == master_id)).one()
        return master_of(changed)

    def mark_damaged(self, master_id: UUID) -> bool:
        with self._db.write() as connection:
            return _change_state(connection, master_id, MasterState.STORED, MasterState.DAMAGED)

    def restore_damaged(self, master_id: UUID) -> bool:
        # What was read of its file may be what the damaged bytes said.
        with self._db.write() as connection:
            restored = _change_state(
                connection, master_id, MasterState.DAMAGED, MasterState.STORED, capture_reader=0
            )
            if restored:
                forget_features(connection, master_id)
                compare_again(connection, [master_id])
        return restored

    def delete_master(self, master_id: UUID, revisions: Container[int] | None = None) -> bool:
        with self._db.write() as connection:
            if not _lock_master(connection, master_id, KEPT, revisions):
                return False
            connection.execute(
                MASTERS.update().where(MASTERS.c.id == master_id).values(**deleting_values())
            )
        return True

    def claim_deleting(self, owner: str, limit: int, lease: float) -> list[Master]:
        due = sa.and_(MASTERS.c.state == MasterState.DELETING, is_free(MASTERS.c.lease_until))
        with self._db.read() as connection:  # rarely any: check before taking the write lock
            if connection.execute(sa.select(MASTERS.c.id).where(due).limit(1)).first() is None:
                return []
        some = sa.select(MASTERS.c.id).where(due).limit(limit)
        with self._db.write() as connection:
            # Without the collection, because MariaDB would lock its row as well.
            ids = connection.scalars(some.with_for_update(skip_locked=True)).all()
            claimed = MASTERS.c.id.in_(ids)
            connection.execute(
                MASTERS.update()
                .where(claimed)
                .values(lease_owner=owner, lease_until=from_now(lease))
            )
            rows = connection.execute(SELECT_MASTERS.where(claimed)).all()
        return [master_of(row) for row in rows]

    def forget_master(self, master_id: UUID, owner: str) -> None:
        claimed = is_reserved_by(master_id, owner, MasterState.DELETING)
        with self._db.write() as connection:
            if connection.execute(sa.select(MASTERS.c.id).where(claimed)).first() is None:
                return
            connection.execute(EMBEDDINGS.delete().where(EMBEDDINGS.c.master_id == master_id))
            forget_duplicates(connection, master_id)
            connection.execute(MASTERS.delete().where(MASTERS.c.id == master_id))


def _change_state(
    connection: sa.Connection, master_id: UUID, old: MasterState, new: MasterState, **values: Any
) -> bool:
    """Move a master from one state to another; return False if it is not in the first."""
    result = connection.execute(
        MASTERS.update()
        .where(MASTERS.c.id == master_id, MASTERS.c.state == old)
        .values(state=new, **values)
    )
    return result.rowcount == 1


def _lock_master(
    connection: sa.Connection,
    master_id: UUID,
    states: Sequence[MasterState],
    revisions: Container[int] | None,
) -> bool:
    """Return whether a master of a live collection is in one of the states, and lock its row.

    Raises MasterChanged if it has none of the ``revisions``; None allows any.
    """
    if not lock_live_collection(connection, master_id):
        return False
    its_revision = sa.select(MASTERS.c.revision).where(
        MASTERS.c.id == master_id, MASTERS.c.state.in_(states)
    )
    revision = connection.scalar(its_revision.with_for_update())
    if revision is not None and revisions is not None and revision not in revisions:
        raise MasterChanged(revision)
    return revision is not None
