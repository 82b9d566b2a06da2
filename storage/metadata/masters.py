"""Stored masters in the metadata database: lookup, listing, changes, damage and deletion."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage import filters_sql
from storage.database import Database, now, retry_lost_transactions
from storage.errors import MasterChanged
from storage.filters import Filter, count_conditions
from storage.metadata.attribute_index import AttributeIndex
from storage.metadata.rows import (
    COLLECTIONS,
    EMBEDDINGS,
    IS_VISIBLE,
    KEPT,
    MASTERS,
    PENDING,
    SELECT_MASTERS,
    deleting_values,
    from_now,
    is_free,
    is_reserved_by,
    lock_live_collection,
    master_of,
)
from storage.records import Attributes, Master, MasterState, Page

_MOST_IN_SQL = 2  # conditions of a filter, each of which SQLite parses every row for
_MOST_VARIABLES = 500  # ids in one statement, below each database's limit of bound variables


@retry_lost_transactions
class SqlMasters:
    """MasterStore on a SQL database."""

    _db: Database
    _index: AttributeIndex

    def find_master(self, master_id: UUID) -> Master | None:
        with self._db.read() as connection:
            row = connection.execute(
                SELECT_MASTERS.where(MASTERS.c.id == master_id, IS_VISIBLE)
            ).first()
        return master_of(row) if row else None

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        same = sa.and_(COLLECTIONS.c.live_name == collection, MASTERS.c.live_sha256 == sha256)
        with self._db.read() as connection:
            row = connection.execute(SELECT_MASTERS.where(same, IS_VISIBLE)).first()
        return master_of(row) if row else None

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        with self._db.read() as connection:
            return _find(connection, ids, self._is_inside(collection_id, None))

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: UUID | None,
        offset: int = 0,
    ) -> Page:
        with self._db.read() as connection:
            if self._db.embedded and filter is not None and count_conditions(filter) > _MOST_IN_SQL:
                return self._list_by_index(connection, collection_id, filter, limit, after, offset)
            inside = self._is_inside(collection_id, filter)
            statement = (
                SELECT_MASTERS.where(inside)
                .order_by(MASTERS.c.id.desc())
                .limit(limit + 1)
                .offset(offset)
            )
            if after is not None:
                statement = statement.where(MASTERS.c.id < after)
            masters = [master_of(row) for row in connection.execute(statement)]
            total = _count(connection, inside)
        more = len(masters) > limit
        return Page(masters[:limit], masters[limit - 1].id if more else None, total)

    def _list_by_index(
        self,
        connection: sa.Connection,
        collection_id: UUID,
        filter: Filter,
        limit: int,
        after: UUID | None,
        offset: int,
    ) -> Page:
        selected = self._index.select(connection, collection_id, filter)
        later = selected if after is None else [id_ for id_ in selected if id_ < after.bytes]
        ids = [UUID(bytes=id_) for id_ in later[offset : offset + limit]]
        found = _find(connection, ids, MASTERS.c.collection_id == collection_id)
        more = len(later) > offset + limit
        return Page([found[id_] for id_ in ids], ids[-1] if more else None, len(selected))

    def count_masters(self, collection_id: UUID) -> int:
        with self._db.read() as connection:
            return _count(connection, self._is_inside(collection_id, None))

    def _is_inside(self, collection_id: UUID, filter: Filter | None) -> sa.ColumnElement[bool]:
        inside = sa.and_(MASTERS.c.collection_id == collection_id, IS_VISIBLE)
        if filter is None:
            return inside
        dialect = self._db.url.get_backend_name()
        return sa.and_(inside, filters_sql.condition(filter, MASTERS.c, dialect))

    def list_attributes(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[tuple[UUID, Attributes]]:
        statement = (
            sa.select(MASTERS.c.id, MASTERS.c.attributes)
            .where(MASTERS.c.collection_id == collection_id, MASTERS.c.state == MasterState.STORED)
            .order_by(MASTERS.c.id.desc())
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(MASTERS.c.id < after)
        with self._db.read() as connection:
            return [(row.id, row.attributes) for row in connection.execute(statement)]

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
            # A lease on the embedding stays: its holder notices the new revision and releases it.
            connection.execute(
                EMBEDDINGS.update()
                .where(EMBEDDINGS.c.master_id == master_id)
                .values(state=PENDING, attempts=0, run_after=now())
            )
            changed = connection.execute(SELECT_MASTERS.where(MASTERS.c.id == master_id)).one()
        return master_of(changed)

    def mark_damaged(self, master_id: UUID) -> bool:
        return self._change_state(master_id, MasterState.STORED, MasterState.DAMAGED)

    def restore_damaged(self, master_id: UUID) -> bool:
        return self._change_state(master_id, MasterState.DAMAGED, MasterState.STORED)

    def _change_state(self, master_id: UUID, old: MasterState, new: MasterState) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                MASTERS.update()
                .where(MASTERS.c.id == master_id, MASTERS.c.state == old)
                .values(state=new)
            )
        return result.rowcount == 1

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
            connection.execute(MASTERS.delete().where(MASTERS.c.id == master_id))


def _find(
    connection: sa.Connection, ids: Sequence[UUID], condition: sa.ColumnElement[bool]
) -> dict[UUID, Master]:
    """Return the masters with these ids that meet the condition, by id."""
    found: dict[UUID, Master] = {}
    for start in range(0, len(ids), _MOST_VARIABLES):
        some = MASTERS.c.id.in_(ids[start : start + _MOST_VARIABLES])
        for row in connection.execute(SELECT_MASTERS.where(some, condition)):
            found[row.id] = master_of(row)
    return found


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    statement = SELECT_MASTERS.with_only_columns(sa.func.count()).where(condition)
    return connection.scalar(statement) or 0


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
