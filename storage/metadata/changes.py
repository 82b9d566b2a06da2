"""Changes of many masters in the metadata database, in one transaction for each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage import filters_sql
from storage.database import Database, now, retry_lost_transactions
from storage.filters import Filter
from storage.metadata.rows import (
    COLLECTIONS,
    KEPT,
    LIVE,
    MASTERS,
    SELECT_MASTERS,
    deleting_values,
    index_again,
    is_inside,
    master_of,
)
from storage.protocols.changes import AttributeUpdate
from storage.records import Master, MasterState

_UPDATE = (
    MASTERS.update()
    .where(MASTERS.c.id == sa.bindparam("its_id"))
    .values(
        attributes=sa.bindparam("its_attributes", type_=MASTERS.c.attributes.type),
        revision=MASTERS.c.revision + 1,
        updated_at=now(),
    )
)


@retry_lost_transactions
class SqlChanges:
    """ChangeStore on a SQL database."""

    _db: Database

    def select_masters(
        self, collection_id: UUID, filter: Filter, limit: int, before: UUID | None
    ) -> list[Master]:
        dialect = self._db.url.get_backend_name()
        matching = filters_sql.condition(filter, MASTERS.c, dialect)
        statement = SELECT_MASTERS.where(is_inside(collection_id), matching)
        if before is not None:
            statement = statement.where(MASTERS.c.id < before)
        statement = statement.order_by(MASTERS.c.id.desc()).limit(limit)
        with self._db.read() as connection:
            return [master_of(row) for row in connection.execute(statement)]

    def update_masters(self, collection_id: UUID, updates: Sequence[AttributeUpdate]) -> set[UUID]:
        seen = {update.master_id: update.revision for update in updates}
        with self._db.write() as connection:
            unchanged = _lock_unchanged(connection, collection_id, seen, (MasterState.STORED,))
            if not unchanged:
                return unchanged
            values = [
                {"its_id": update.master_id, "its_attributes": update.attributes}
                for update in updates
                if update.master_id in unchanged
            ]
            connection.execute(_UPDATE, values)
            index_again(connection, unchanged)
        return unchanged

    def delete_masters(self, collection_id: UUID, revisions: Mapping[UUID, int]) -> set[UUID]:
        with self._db.write() as connection:
            unchanged = _lock_unchanged(connection, collection_id, revisions, KEPT)
            if unchanged:
                connection.execute(
                    MASTERS.update().where(MASTERS.c.id.in_(unchanged)).values(**deleting_values())
                )
        return unchanged


def _lock_unchanged(
    connection: sa.Connection,
    collection_id: UUID,
    revisions: Mapping[UUID, int],
    states: Sequence[MasterState],
) -> set[UUID]:
    """Return the masters that still have these revisions, and lock them and their collection."""
    live = sa.select(COLLECTIONS.c.id).where(
        COLLECTIONS.c.id == collection_id, COLLECTIONS.c.state == LIVE
    )
    if connection.execute(live.with_for_update(read=True)).first() is None:
        return set()
    rows: sa.Select[Any] = sa.select(MASTERS.c.id, MASTERS.c.revision).where(
        MASTERS.c.id.in_(list(revisions)),
        MASTERS.c.collection_id == collection_id,
        MASTERS.c.state.in_(states),
    )
    # In the order of ids, so that two changes of the same masters do not wait for each other.
    locked = connection.execute(rows.order_by(MASTERS.c.id).with_for_update())
    return {row.id for row in locked if row.revision == revisions[row.id]}
