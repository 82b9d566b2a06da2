"""Collections in the metadata database: creation, listing, deletion and draining."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.errors import CollectionExists, CollectionGone
from storage.metadata.duplicate_scans import remove_scans
from storage.metadata.rows import COLLECTIONS, DELETING, KEPT, LIVE, MASTERS, deleting_values
from storage.records import Collection, MasterState, new_id

_DRAINED = (*KEPT, MasterState.REMOVED)
_FIND_COLLECTION = sa.select(COLLECTIONS).where(COLLECTIONS.c.live_name == sa.bindparam("its_name"))


@retry_lost_transactions
class SqlCollections:
    """CollectionStore on a SQL database."""

    _db: Database

    def create_collection(self, name: str) -> Collection:
        collection_id = new_id()
        try:
            with self._db.write() as connection:
                _insert(connection, collection_id, name)
        except sa.exc.IntegrityError as error:
            raise CollectionExists(name) from error
        collection = self.find_collection(name)
        if collection is None or collection.id != collection_id:
            raise CollectionGone(name)
        return collection

    def find_collection(self, name: str) -> Collection | None:
        with self._db.read() as connection:
            row = connection.execute(_FIND_COLLECTION, {"its_name": name}).first()
        return Collection(row.id, row.name, row.created_at) if row else None

    def list_collections(self) -> list[tuple[Collection, int]]:
        number_stored = (
            sa.select(sa.func.count())  # one subquery per collection: an index alone answers it
            .where(
                MASTERS.c.collection_id == COLLECTIONS.c.id, MASTERS.c.state == MasterState.STORED
            )
            .scalar_subquery()
        )
        columns = COLLECTIONS.c.id, COLLECTIONS.c.name, COLLECTIONS.c.created_at
        statement = (
            sa.select(*columns, number_stored)
            .where(COLLECTIONS.c.state == LIVE)
            .order_by(COLLECTIONS.c.name)
        )
        with self._db.read() as connection:
            rows = connection.execute(statement).all()
        return [(Collection(row[0], row[1], row[2]), row[3]) for row in rows]

    def delete_collection(self, name: str) -> bool:
        with self._db.write() as connection:
            return _mark_deleting(connection, name)

    def empty_collection(self, name: str) -> bool:
        with self._db.write() as connection:
            found = _mark_deleting(connection, name)
            if found:
                _insert(connection, new_id(), name)
        return found

    def drain_collections(self, limit: int) -> int:
        moved = 0
        is_deleting = sa.select(COLLECTIONS.c.id).where(COLLECTIONS.c.state == DELETING)
        with self._db.write() as connection:
            for collection_id in connection.scalars(is_deleting).all():
                inside = MASTERS.c.collection_id == collection_id
                some = sa.select(MASTERS.c.id).where(inside, MASTERS.c.state.in_(_DRAINED))
                ids = connection.scalars(some.limit(limit - moved)).all()
                if ids:
                    moved += len(ids)
                    connection.execute(
                        MASTERS.update().where(MASTERS.c.id.in_(ids)).values(**deleting_values())
                    )
                    continue
                number = sa.select(sa.func.count()).select_from(MASTERS).where(inside)
                if connection.scalar(number) == 0:
                    remove_scans(connection, collection_id)
                    connection.execute(
                        COLLECTIONS.delete().where(COLLECTIONS.c.id == collection_id)
                    )
        return moved


def _insert(connection: sa.Connection, collection_id: UUID, name: str) -> None:
    connection.execute(
        COLLECTIONS.insert().values(
            id=collection_id, name=name, live_name=name, state=LIVE, created_at=now()
        )
    )


def _mark_deleting(connection: sa.Connection, name: str) -> bool:
    result = connection.execute(
        COLLECTIONS.update()
        .where(COLLECTIONS.c.live_name == name)
        .values(state=DELETING, live_name=None)
    )
    return result.rowcount > 0
