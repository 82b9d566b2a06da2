"""The metadata store on a SQL database: collections, masters and their states, the outbox of embeddings, leases."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage import filters_sql, schema_upgrade
from storage.database import Database, now, past, undone_transactions_retried
from storage.errors import CollectionExists, CollectionGone, MasterExists
from storage.filters import Filter
from storage.records import (
    Attributes,
    Claim,
    Collection,
    DeadLetter,
    IndexTask,
    Master,
    MasterRecord,
    MasterState,
    NewMaster,
    Page,
    Reservation,
)
from storage.registry import live_models, new_embedding
from storage.tables import CollectionRow, EmbeddingRow, LeaseRow, MasterRow, table_of

_collections = table_of(CollectionRow)
_masters = table_of(MasterRow)
_embeddings = table_of(EmbeddingRow)
_leases = table_of(LeaseRow)
_LIVE, _DELETING = "live", "deleting"
_PENDING, _INDEXED, _DEAD = "pending", "indexed", "dead"
_WITH_NAME = sa.select(*_masters.c, _collections.c.name.label("collection")).join(
    _collections, _collections.c.id == _masters.c.collection_id
)
_VISIBLE = sa.and_(_masters.c.state == MasterState.STORED, _collections.c.state == _LIVE)


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random bits, so that ids sort by time."""
    value = int.from_bytes(os.urandom(16))
    value = (time.time_ns() // 1_000_000) << 80 | (value & (1 << 80) - 1)
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)


def _lease(seconds: float) -> sa.ColumnElement[int]:
    return now() + int(seconds * 1000)


def _free(lease_until: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(lease_until.is_(None), past(lease_until))


def _master(row: Any) -> Master:
    return Master(
        id=row.id,
        collection_id=row.collection_id,
        collection=row.collection,
        sha256=row.sha256,
        size=row.size,
        mime=row.mime,
        extension=row.extension,
        width=row.width,
        height=row.height,
        name=row.name,
        attributes=row.attributes,
        revision=row.revision,
        state=MasterState(row.state),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


@undone_transactions_retried
class SqlMetadataStore:
    """MetadataStore on SQLite, MySQL and MariaDB: the same statements."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def migrate(self) -> None:
        schema_upgrade.upgrade(self._db)

    def ping(self) -> None:
        with self._db.read() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        self._db.close()

    # collections

    def create_collection(self, name: str) -> Collection:
        collection_id = new_id()
        try:
            with self._db.write() as connection:
                connection.execute(
                    _collections.insert().values(
                        id=collection_id, name=name, live_name=name, state=_LIVE, created_at=now()
                    )
                )
        except sa.exc.IntegrityError as error:
            raise CollectionExists(name) from error
        collection = self.find_collection(name)
        if collection is None or collection.id != collection_id:
            raise CollectionGone(name)
        return collection

    def find_collection(self, name: str) -> Collection | None:
        with self._db.read() as connection:
            row = connection.execute(
                sa.select(_collections).where(_collections.c.live_name == name)
            ).first()
        return Collection(row.id, row.name, row.created_at) if row else None

    def list_collections(self) -> list[tuple[Collection, int]]:
        stored = (
            sa.select(sa.func.count())  # of each by itself: the index alone answers
            .where(
                _masters.c.collection_id == _collections.c.id,
                _masters.c.state == MasterState.STORED,
            )
            .scalar_subquery()
        )
        statement = (
            sa.select(_collections.c.id, _collections.c.name, _collections.c.created_at, stored)
            .where(_collections.c.state == _LIVE)
            .order_by(_collections.c.name)
        )
        with self._db.read() as connection:
            return [
                (Collection(row[0], row[1], row[2]), row[3])
                for row in connection.execute(statement)
            ]

    def delete_collection(self, name: str) -> bool:
        with self._db.write() as connection:
            return _delete_collection(connection, name)

    def empty_collection(self, name: str) -> bool:
        with self._db.write() as connection:
            found = _delete_collection(connection, name)
            if found:
                connection.execute(
                    _collections.insert().values(
                        id=new_id(), name=name, live_name=name, state=_LIVE, created_at=now()
                    )
                )
        return found

    def drain_collections(self, limit: int) -> int:
        moved = 0
        with self._db.write() as connection:
            dying = connection.scalars(
                sa.select(_collections.c.id).where(_collections.c.state == _DELETING)
            ).all()
            for collection_id in dying:
                inside = _masters.c.collection_id == collection_id
                ids = connection.scalars(
                    sa.select(_masters.c.id)
                    .where(inside, _masters.c.state.in_((MasterState.STORED, MasterState.DAMAGED)))
                    .limit(limit - moved)
                ).all()
                if ids:
                    moved += len(ids)
                    connection.execute(
                        _masters.update().where(_masters.c.id.in_(ids)).values(**_deleting())
                    )
                elif (
                    connection.scalar(
                        sa.select(sa.func.count()).select_from(_masters).where(inside)
                    )
                    == 0
                ):
                    connection.execute(
                        _collections.delete().where(_collections.c.id == collection_id)
                    )
        return moved

    # masters

    def reserve(self, collection_id: UUID, new: NewMaster, owner: str, lease: float) -> Reservation:
        while True:
            try:
                with self._db.write() as connection:
                    return self._reserve(connection, collection_id, new, owner, lease)
            except sa.exc.IntegrityError:  # another replica's insert came first: look again
                continue

    def _reserve(
        self,
        connection: sa.Connection,
        collection_id: UUID,
        new: NewMaster,
        owner: str,
        lease: float,
    ) -> Reservation:
        live = sa.select(_collections.c.name, now()).where(
            _collections.c.id == collection_id, _collections.c.state == _LIVE
        )
        collection = connection.execute(live.with_for_update(read=True)).first()
        if collection is None:
            raise CollectionGone(str(collection_id))
        same = sa.and_(
            _masters.c.collection_id == collection_id, _masters.c.live_sha256 == new.sha256
        )
        existing = connection.execute(
            _WITH_NAME.add_columns(_free(_masters.c.lease_until).label("free")).where(same)
        ).first()
        if existing is None:
            name, clock = collection
            columns = vars(new) | {
                "id": new_id(),
                "collection_id": collection_id,
                "revision": 1,
                "state": MasterState.PENDING,
                "created_at": clock,
                "updated_at": clock,
            }
            lease_until = clock + int(lease * 1000)
            connection.execute(
                _masters.insert(),
                columns
                | {"live_sha256": new.sha256, "lease_owner": owner, "lease_until": lease_until},
            )
            return Reservation(Claim.OURS, Master(collection=name, **columns))
        if existing.state == MasterState.DAMAGED:
            return Reservation(Claim.DAMAGED, _master(existing))
        if existing.state != MasterState.PENDING:
            return Reservation(Claim.EXISTS, _master(existing))
        if not existing.free:
            return Reservation(Claim.BUSY, _master(existing))
        # the uploader before us is gone: its row becomes ours, with what we were given
        taken = connection.execute(
            _masters.update()
            .where(
                _masters.c.id == existing.id,
                _masters.c.state == MasterState.PENDING,
                _free(_masters.c.lease_until),
            )
            .values(
                name=new.name,
                attributes=new.attributes,
                lease_owner=owner,
                lease_until=_lease(lease),
                updated_at=now(),
            )
        )
        if taken.rowcount != 1:  # it was not gone, or another one was faster
            return Reservation(Claim.BUSY, _master(existing))
        return Reservation(
            Claim.OURS,
            _master(connection.execute(_WITH_NAME.where(_masters.c.id == existing.id)).one()),
        )

    def renew(self, master_id: UUID, owner: str, lease: float) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                _masters.update()
                .where(_owned(master_id, owner, MasterState.PENDING))
                .values(lease_until=_lease(lease))
            )
        return result.rowcount == 1

    def commit_stored(
        self, master_id: UUID, owner: str, versions: Sequence[str], lease: float
    ) -> list[str] | None:
        its_collection = (
            sa.select(_masters.c.collection_id).where(_masters.c.id == master_id).scalar_subquery()
        )
        is_live = sa.select(_collections.c.id).where(
            _collections.c.id == its_collection, _collections.c.state == _LIVE
        )
        with self._db.write() as connection:
            if connection.execute(is_live.with_for_update(read=True)).first() is None:
                return None
            result = connection.execute(
                _masters.update()
                .where(_owned(master_id, owner, MasterState.PENDING))
                .values(state=MasterState.STORED, lease_owner=None, lease_until=None)
            )
            if result.rowcount != 1:
                return None
            live = live_models(connection)
            for version in live:
                held = (
                    {"lease_owner": owner, "lease_until": _lease(lease)}
                    if version in versions
                    else {}
                )
                connection.execute(
                    _embeddings.insert().values(new_embedding(master_id, version) | held)
                )
        return [version for version in versions if version in live]

    def abandon(self, master_id: UUID, owner: str) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                _masters.update()
                .where(_owned(master_id, owner, MasterState.PENDING))
                .values(**_deleting())
            )
        return result.rowcount == 1

    def expire_pending(self) -> int:
        gone = sa.and_(_masters.c.state == MasterState.PENDING, past(_masters.c.lease_until))
        with self._db.read() as connection:  # seldom anything: look before taking the write lock
            if connection.execute(sa.select(_masters.c.id).where(gone).limit(1)).first() is None:
                return 0
        with self._db.write() as connection:
            return connection.execute(_masters.update().where(gone).values(**_deleting())).rowcount

    def find_master(self, master_id: UUID) -> Master | None:
        with self._db.read() as connection:
            row = connection.execute(_WITH_NAME.where(_masters.c.id == master_id, _VISIBLE)).first()
        return _master(row) if row else None

    def find_by_hash(self, collection: str, sha256: bytes) -> Master | None:
        same = sa.and_(_collections.c.live_name == collection, _masters.c.live_sha256 == sha256)
        with self._db.read() as connection:
            row = connection.execute(_WITH_NAME.where(same, _VISIBLE)).first()
        return _master(row) if row else None

    def find_masters(self, collection_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Master]:
        found: dict[UUID, Master] = {}
        with self._db.read() as connection:
            for start in range(0, len(ids), 500):  # under the database's limit of bound variables
                some = _masters.c.id.in_(ids[start : start + 500])
                for row in connection.execute(
                    _WITH_NAME.where(some, _masters.c.collection_id == collection_id, _VISIBLE)
                ):
                    found[row.id] = _master(row)
        return found

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: UUID | None,
        offset: int = 0,
    ) -> Page:
        statement = (
            _WITH_NAME.where(*_inside(collection_id, filter, self._db.url.get_backend_name()))
            .order_by(_masters.c.id.desc())
            .limit(limit + 1)
            .offset(offset)
        )
        if after is not None:
            statement = statement.where(_masters.c.id < after)
        with self._db.read() as connection:
            masters = [_master(row) for row in connection.execute(statement)]
        more = len(masters) > limit
        return Page(masters[:limit], masters[limit - 1].id if more else None)

    def count_masters(self, collection_id: UUID, filter: Filter | None) -> int:
        statement = _WITH_NAME.with_only_columns(sa.func.count()).where(
            *_inside(collection_id, filter, self._db.url.get_backend_name())
        )
        with self._db.read() as connection:
            return connection.scalar(statement) or 0

    def list_attributes(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[tuple[UUID, Attributes]]:
        statement = (
            sa.select(_masters.c.id, _masters.c.attributes)
            .where(
                _masters.c.collection_id == collection_id, _masters.c.state == MasterState.STORED
            )
            .order_by(_masters.c.id.desc())
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(_masters.c.id < after)
        with self._db.read() as connection:
            return [(row.id, row.attributes) for row in connection.execute(statement)]

    def update_master(
        self, master_id: UUID, *, name: str | None, attributes: Attributes | None
    ) -> Master | None:
        changes: dict[str, Any] = {"updated_at": now(), "revision": _masters.c.revision + 1}
        if name is not None:
            changes["name"] = name
        if attributes is not None:
            changes["attributes"] = attributes
        with self._db.write() as connection:
            row = connection.execute(
                _WITH_NAME.where(_masters.c.id == master_id, _VISIBLE).with_for_update()
            ).first()
            if row is None:
                return None
            connection.execute(
                _masters.update().where(_masters.c.id == master_id).values(**changes)
            )
            # a lease on the embedding stays: its holder finds the revision changed and hands it back
            connection.execute(
                _embeddings.update()
                .where(_embeddings.c.master_id == master_id)
                .values(state=_PENDING, attempts=0, run_after=now())
            )
            return _master(connection.execute(_WITH_NAME.where(_masters.c.id == master_id)).one())

    def delete_master(self, master_id: UUID) -> bool:
        live = sa.select(_collections.c.id).where(_collections.c.state == _LIVE)
        with self._db.write() as connection:
            result = connection.execute(
                _masters.update()
                .where(
                    _masters.c.id == master_id,
                    _masters.c.state.in_((MasterState.STORED, MasterState.DAMAGED)),
                    _masters.c.collection_id.in_(live),
                )
                .values(**_deleting())
            )
        return result.rowcount == 1

    def claim_deleting(self, owner: str, limit: int, lease: float) -> list[Master]:
        due = sa.and_(_masters.c.state == MasterState.DELETING, _free(_masters.c.lease_until))
        with self._db.read() as connection:
            if connection.execute(sa.select(_masters.c.id).where(due).limit(1)).first() is None:
                return []
        with self._db.write() as connection:
            rows = connection.execute(
                _WITH_NAME.where(due).limit(limit).with_for_update(skip_locked=True, of=_masters)
            ).all()
            ids = [row.id for row in rows]
            connection.execute(
                _masters.update()
                .where(_masters.c.id.in_(ids))
                .values(lease_owner=owner, lease_until=_lease(lease))
            )
        return [_master(row) for row in rows]

    def forget_master(self, master_id: UUID, owner: str) -> None:
        with self._db.write() as connection:
            if connection.execute(
                sa.select(_masters.c.id).where(_owned(master_id, owner, MasterState.DELETING))
            ).first():
                connection.execute(_embeddings.delete().where(_embeddings.c.master_id == master_id))
                connection.execute(_masters.delete().where(_masters.c.id == master_id))

    # embeddings

    def claim_embeddings(
        self, versions: Sequence[str], owner: str, limit: int, lease: float
    ) -> list[IndexTask]:
        due = sa.and_(
            _embeddings.c.state == _PENDING,
            past(_embeddings.c.run_after),
            _free(_embeddings.c.lease_until),
            _embeddings.c.model_version.in_(versions),
            _masters.c.state == MasterState.STORED,
        )
        statement = (
            _WITH_NAME.add_columns(_embeddings.c.model_version, _embeddings.c.attempts)
            .join(_embeddings, _embeddings.c.master_id == _masters.c.id)
            .where(due)
            .order_by(_embeddings.c.run_after)
            .limit(limit)
        )
        with self._db.read() as connection:
            if connection.execute(statement.limit(1)).first() is None:
                return []
        with self._db.write() as connection:
            rows = connection.execute(
                statement.with_for_update(skip_locked=True, of=_embeddings)
            ).all()
            for row in rows:
                connection.execute(
                    _embeddings.update()
                    .where(
                        _embeddings.c.master_id == row.id,
                        _embeddings.c.model_version == row.model_version,
                    )
                    .values(lease_owner=owner, lease_until=_lease(lease))
                )
        return [IndexTask(_master(row), row.model_version, row.attempts) for row in rows]

    def claim_embedding(self, master_id: UUID, version: str, owner: str, lease: float) -> bool:
        one = sa.and_(_embeddings.c.master_id == master_id, _embeddings.c.model_version == version)
        with self._db.write() as connection:
            result = connection.execute(
                _embeddings.update()
                .where(one, _embeddings.c.state == _PENDING, _free(_embeddings.c.lease_until))
                .values(lease_owner=owner, lease_until=_lease(lease))
            )
        return result.rowcount == 1

    def is_indexed(self, master_id: UUID, version: str) -> bool:
        done = sa.select(_embeddings.c.state).where(
            _embeddings.c.master_id == master_id, _embeddings.c.model_version == version
        )
        with self._db.read() as connection:
            return connection.scalar(done) == _INDEXED

    def mark_indexed(self, task: IndexTask, owner: str) -> bool:
        current = sa.select(_masters.c.id).where(
            _masters.c.id == task.master.id,
            _masters.c.revision == task.master.revision,
            _masters.c.state == MasterState.STORED,
        )
        with self._db.write() as connection:
            # locked, in the order of update_master: in a subquery it would be read before a change that is under way ends
            is_current = connection.execute(current.with_for_update(read=True)).first() is not None
            changes = (
                _indexed(task.master.revision)
                if is_current
                else {"lease_owner": None, "lease_until": None}
            )
            result = connection.execute(
                _embeddings.update().where(_leased(task, owner)).values(**changes)
            )
        return is_current and result.rowcount == 1

    def retry_embedding(
        self, task: IndexTask, owner: str, failure: str, delay: float | None
    ) -> None:
        due = {"state": _DEAD} if delay is None else {"run_after": _lease(delay)}
        counted = {
            "attempts": _embeddings.c.attempts + 1,
            "failure": failure[:500],
            "lease_owner": None,
            "lease_until": None,
        }
        with self._db.write() as connection:
            connection.execute(
                _embeddings.update().where(_leased(task, owner)).values(**counted, **due)
            )

    def hand_back_embedding(self, task: IndexTask, owner: str, delay: float) -> None:
        free = {"run_after": _lease(delay), "lease_owner": None, "lease_until": None}
        with self._db.write() as connection:
            connection.execute(_embeddings.update().where(_leased(task, owner)).values(**free))

    def list_dead(self, limit: int) -> list[DeadLetter]:
        statement = (
            _WITH_NAME.add_columns(
                _embeddings.c.model_version, _embeddings.c.attempts, _embeddings.c.failure
            )
            .join(_embeddings, _embeddings.c.master_id == _masters.c.id)
            .where(
                _embeddings.c.state == _DEAD,
                _masters.c.state.in_((MasterState.STORED, MasterState.DAMAGED)),
            )
            .order_by(_masters.c.id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                DeadLetter(_master(row), row.model_version, row.attempts, row.failure or "")
                for row in connection.execute(statement)
            ]

    def revive_dead(self) -> int:
        again = {"state": _PENDING, "attempts": 0, "run_after": now()}
        with self._db.write() as connection:
            return connection.execute(
                _embeddings.update().where(_embeddings.c.state == _DEAD).values(**again)
            ).rowcount

    def count_pending(self) -> int:
        return self._count_embeddings(_PENDING)

    def count_dead(self) -> int:
        return self._count_embeddings(_DEAD)

    def _count_embeddings(self, state: str) -> int:
        with self._db.read() as connection:
            return (
                connection.scalar(sa.select(sa.func.count()).where(_embeddings.c.state == state))
                or 0
            )

    def release_leases(self, owner: str) -> None:
        with self._db.write() as connection:
            for table in (_masters, _embeddings):
                connection.execute(
                    table.update()
                    .where(table.c.lease_owner == owner)
                    .values(lease_owner=None, lease_until=0)
                )

    # moving to another database

    def count_unfinished(self) -> int:
        moving = sa.select(sa.func.count()).where(
            _masters.c.state.in_((MasterState.PENDING, MasterState.DELETING))
        )
        dying = sa.select(sa.func.count()).where(_collections.c.state == _DELETING)
        with self._db.read() as connection:
            return (connection.scalar(moving) or 0) + (connection.scalar(dying) or 0)

    def adopt_collection(self, collection: Collection) -> None:
        if self.find_collection(collection.name) == collection:
            return
        try:
            with self._db.write() as connection:
                connection.execute(
                    _collections.insert().values(
                        id=collection.id,
                        name=collection.name,
                        live_name=collection.name,
                        state=_LIVE,
                        created_at=collection.created_at,
                    )
                )
        except sa.exc.IntegrityError as error:
            raise CollectionExists(collection.name) from error

    def walk_masters(
        self, after: UUID | None, limit: int, collection_id: UUID | None = None
    ) -> list[MasterRecord]:
        there = _masters.c.state.in_((MasterState.STORED, MasterState.DAMAGED))
        statement = (
            _WITH_NAME.where(there, _collections.c.state == _LIVE)
            .order_by(_masters.c.id)
            .limit(limit)
        )
        if collection_id is not None:
            statement = statement.where(_masters.c.collection_id == collection_id)
        if after is not None:
            statement = statement.where(_masters.c.id > after)
        return self._records(statement)

    def know_masters(self, ids: Sequence[UUID]) -> dict[UUID, MasterRecord]:
        return {
            record.master.id: record
            for record in self._records(_WITH_NAME.where(_masters.c.id.in_(ids)))
        }

    def _records(self, statement: sa.Select[Any]) -> list[MasterRecord]:
        with self._db.read() as connection:
            masters = [_master(row) for row in connection.execute(statement)]
            indexed: dict[UUID, dict[str, int | None]] = {master.id: {} for master in masters}
            for row in connection.execute(
                sa.select(_embeddings).where(_embeddings.c.master_id.in_(list(indexed)))
            ):
                indexed[row.master_id][row.model_version] = (
                    row.indexed_revision if row.state == _INDEXED else None
                )
        return [MasterRecord(master, indexed[master.id]) for master in masters]

    def adopt_masters(self, records: Sequence[MasterRecord]) -> None:
        masters, embeddings = [], []
        for record in records:
            columns = vars(record.master) | {"live_sha256": record.master.sha256}
            masters.append({name: value for name, value in columns.items() if name != "collection"})
            for version, revision in record.indexed.items():
                embeddings.append(
                    {
                        "master_id": record.master.id,
                        "model_version": version,
                        "state": _PENDING if revision is None else _INDEXED,
                        "indexed_revision": revision,
                        "attempts": 0,
                        "run_after": 0,
                    }
                )
        try:
            with self._db.write() as connection:
                ids = [record.master.id for record in records]
                connection.execute(_embeddings.delete().where(_embeddings.c.master_id.in_(ids)))
                connection.execute(_masters.delete().where(_masters.c.id.in_(ids)))
                if masters:
                    connection.execute(_masters.insert(), masters)
                if embeddings:
                    connection.execute(_embeddings.insert(), embeddings)
        except sa.exc.IntegrityError as error:
            raise MasterExists(str(error.orig)) from error

    # check and repair

    def mark_damaged(self, master_id: UUID) -> bool:
        return self._change_state(master_id, MasterState.STORED, MasterState.DAMAGED)

    def heal(self, master_id: UUID) -> bool:
        return self._change_state(master_id, MasterState.DAMAGED, MasterState.STORED)

    def _change_state(self, master_id: UUID, old: MasterState, new: MasterState) -> bool:
        with self._db.write() as connection:
            result = connection.execute(
                _masters.update()
                .where(_masters.c.id == master_id, _masters.c.state == old)
                .values(state=new)
            )
        return result.rowcount == 1

    def requeue_embedding(
        self, master_id: UUID, version: str, indexed_revision: int | None
    ) -> bool:
        one = sa.and_(_embeddings.c.master_id == master_id, _embeddings.c.model_version == version)
        with self._db.write() as connection:
            stored = sa.select(_masters.c.id).where(
                _masters.c.id == master_id, _masters.c.state == MasterState.STORED
            )
            if connection.execute(stored.with_for_update(read=True)).first() is None:
                return False
            if indexed_revision is not None:
                as_seen = sa.and_(
                    one,
                    _embeddings.c.state == _INDEXED,
                    _embeddings.c.indexed_revision == indexed_revision,
                )
                pending = {"state": _PENDING, "attempts": 0, "run_after": now()}
                return (
                    connection.execute(
                        _embeddings.update().where(as_seen).values(**pending)
                    ).rowcount
                    == 1
                )
            if connection.execute(sa.select(_embeddings.c.state).where(one)).first() is not None:
                return False
            connection.execute(_embeddings.insert().values(new_embedding(master_id, version)))
        return True

    def acquire_lease(self, name: str, owner: str, seconds: float) -> bool:
        mine = sa.and_(
            _leases.c.name == name, sa.or_(_leases.c.owner == owner, _leases.c.until < now())
        )
        try:
            with self._db.write() as connection:
                held = {"owner": owner, "until": _lease(seconds)}
                if connection.execute(_leases.update().where(mine).values(**held)).rowcount == 1:
                    return True
                if (
                    connection.execute(
                        sa.select(_leases.c.name).where(_leases.c.name == name)
                    ).first()
                    is not None
                ):
                    return False
                connection.execute(_leases.insert().values(name=name, **held))
        except sa.exc.IntegrityError:  # somebody else was faster
            return False
        return True

    def release_lease(self, name: str, owner: str) -> None:
        with self._db.write() as connection:
            connection.execute(
                _leases.delete().where(_leases.c.name == name, _leases.c.owner == owner)
            )

    def is_leased(self, name: str) -> bool:
        held = sa.select(_leases.c.name).where(_leases.c.name == name, _leases.c.until > now())
        with self._db.read() as connection:
            return connection.execute(held).first() is not None


def _delete_collection(connection: sa.Connection, name: str) -> bool:
    result = connection.execute(
        _collections.update()
        .where(_collections.c.live_name == name)
        .values(state=_DELETING, live_name=None)
    )
    return result.rowcount > 0


def _indexed(revision: int) -> dict[str, Any]:
    done = {"state": _INDEXED, "indexed_revision": revision, "attempts": 0, "failure": None}
    return done | {"lease_owner": None, "lease_until": None}


def _deleting() -> dict[str, Any]:
    return {
        "state": MasterState.DELETING,
        "live_sha256": None,
        "lease_owner": None,
        "lease_until": None,
        "updated_at": now(),
    }


def _owned(master_id: UUID, owner: str, state: MasterState) -> sa.ColumnElement[bool]:
    return sa.and_(
        _masters.c.id == master_id, _masters.c.lease_owner == owner, _masters.c.state == state
    )


def _leased(task: IndexTask, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        _embeddings.c.master_id == task.master.id,
        _embeddings.c.model_version == task.model_version,
        _embeddings.c.lease_owner == owner,
    )


def _inside(
    collection_id: UUID, filter: Filter | None, dialect: str
) -> list[sa.ColumnElement[bool]]:
    conditions = [_masters.c.collection_id == collection_id, _VISIBLE]
    if filter is not None:
        conditions.append(filters_sql.condition(filter, _masters.c.attributes, dialect))
    return conditions
