"""Whole records in the metadata database, used to check the stores and to copy installations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, retry_lost_transactions
from storage.errors import CollectionExists, MasterExists
from storage.metadata.rows import (
    COLLECTIONS,
    DELETING,
    EMBEDDINGS,
    INDEXED,
    KEPT,
    LIVE,
    MASTERS,
    PENDING,
    SELECT_MASTERS,
    capture_values,
    master_of,
)
from storage.records import Collection, MasterRecord, MasterRevision, MasterState


@retry_lost_transactions
class SqlRecords:
    """RecordStore on a SQL database."""

    _db: Database

    def list_records(
        self, after: UUID | None, limit: int, collection_id: UUID | None = None
    ) -> list[MasterRecord]:
        statement = (
            SELECT_MASTERS.where(COLLECTIONS.c.state == LIVE).order_by(MASTERS.c.id).limit(limit)
        )
        if collection_id is not None:
            kept = MASTERS.c.id.in_(_select_kept_ids(collection_id, after, limit))
            return self._read_records(statement.where(kept))
        # The function keeps databases from reading all rows by an index on the state, to sort them
        # by id for each batch.
        statement = statement.where(sa.func.coalesce(MASTERS.c.state, "").in_(KEPT))
        if after is not None:
            statement = statement.where(MASTERS.c.id > after)
        return self._read_records(statement)

    def list_revisions(
        self, collection_id: UUID, after: UUID | None, limit: int
    ) -> list[MasterRevision]:
        statement = (
            sa.select(MASTERS.c.id, MASTERS.c.revision, MASTERS.c.updated_at, MASTERS.c.state)
            .where(MASTERS.c.id.in_(_select_kept_ids(collection_id, after, limit)))
            .order_by(MASTERS.c.id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                MasterRevision(row.id, row.revision, row.updated_at, MasterState(row.state))
                for row in connection.execute(statement)
            ]

    def find_records(self, ids: Sequence[UUID]) -> dict[UUID, MasterRecord]:
        records = self._read_records(SELECT_MASTERS.where(MASTERS.c.id.in_(ids)))
        return {record.master.id: record for record in records}

    def _read_records(self, statement: sa.Select[Any]) -> list[MasterRecord]:
        with self._db.read() as connection:
            masters = [master_of(row) for row in connection.execute(statement)]
            indexed: dict[UUID, dict[str, int | None]] = {master.id: {} for master in masters}
            theirs = EMBEDDINGS.c.master_id.in_(list(indexed))
            for row in connection.execute(sa.select(EMBEDDINGS).where(theirs)):
                revision = row.indexed_revision if row.state == INDEXED else None
                indexed[row.master_id][row.model_version] = revision
        return [MasterRecord(master, indexed[master.id]) for master in masters]

    def count_unfinished(self) -> int:
        unfinished = (MasterState.PENDING, MasterState.DELETING)
        masters = sa.select(sa.func.count()).where(MASTERS.c.state.in_(unfinished))
        collections = sa.select(sa.func.count()).where(COLLECTIONS.c.state == DELETING)
        with self._db.read() as connection:
            return (connection.scalar(masters) or 0) + (connection.scalar(collections) or 0)

    def import_collection(self, collection: Collection) -> None:
        values = vars(collection) | {"live_name": collection.name, "state": LIVE}
        same_name = sa.select(COLLECTIONS).where(COLLECTIONS.c.live_name == collection.name)
        try:
            with self._db.write() as connection:
                found = connection.execute(same_name).first()
                if found and Collection(found.id, found.name, found.created_at) == collection:
                    return
                connection.execute(COLLECTIONS.insert().values(**values))
        except sa.exc.IntegrityError as error:
            raise CollectionExists(collection.name) from error

    def import_records(self, records: Sequence[MasterRecord]) -> None:
        masters, embeddings = [], []
        for record in records:
            master = record.master
            columns = vars(master) | {"live_sha256": master.sha256}
            columns |= capture_values(master.capture, master.capture_reader)
            masters.append({name: value for name, value in columns.items() if name != "collection"})
            embeddings += _embedding_rows(record)
        ids = [record.master.id for record in records]
        try:
            with self._db.write() as connection:
                connection.execute(EMBEDDINGS.delete().where(EMBEDDINGS.c.master_id.in_(ids)))
                connection.execute(MASTERS.delete().where(MASTERS.c.id.in_(ids)))
                if masters:
                    connection.execute(MASTERS.insert(), masters)
                if embeddings:
                    connection.execute(EMBEDDINGS.insert(), embeddings)
        except sa.exc.IntegrityError as error:
            raise MasterExists(str(error.orig)) from error


def _select_kept_ids(collection_id: UUID, after: UUID | None, limit: int) -> sa.Select[Any]:
    """Return the statement that selects up to ``limit`` ids in each state, in the order of ids.

    Each part of the union follows an index. A condition on both states would sort all rows.
    """
    parts = []
    for state in KEPT:
        inside = sa.and_(MASTERS.c.collection_id == collection_id, MASTERS.c.state == state)
        part = sa.select(MASTERS.c.id).where(inside).order_by(MASTERS.c.id).limit(limit)
        part = part if after is None else part.where(MASTERS.c.id > after)
        parts.append(sa.select(part.subquery().c.id))
    return sa.select(sa.union_all(*parts).subquery().c.id)


def _embedding_rows(record: MasterRecord) -> list[dict[str, Any]]:
    return [
        {
            "master_id": record.master.id,
            "model_version": version,
            "state": PENDING if revision is None else INDEXED,
            "indexed_revision": revision,
            "attempts": 0,
            "run_after": 0,
        }
        for version, revision in record.indexed.items()
    ]
