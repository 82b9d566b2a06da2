"""Deletions that can be undone, in the metadata database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, past, retry_lost_transactions
from storage.metadata.duplicate_scans import compare_again
from storage.metadata.registry import lock_live_models
from storage.metadata.rows import (
    COLLECTIONS,
    DELETIONS,
    EMBEDDINGS,
    FREE_LEASE,
    INDEXED,
    LIVE,
    MASTERS,
    MERGED_ATTRIBUTES,
    PENDING,
    deleting_values,
    from_now,
    index_again,
    is_free,
    new_embedding,
)
from storage.protocols.deletions import Deletion, NewDeletion, Removal, Restored
from storage.records import MasterState

# The lease of a removed row without vectors. It is beyond all others, so that an index on its end
# finds the rows that have not been settled, and it does not count as held.
_SETTLED = {"lease_owner": "undo", "lease_until": 1 << 62}
_ATTEMPTS = 4  # at restoring rows whose bytes are uploaded at the same moment
_IS_REMOVED = MASTERS.c.state == MasterState.REMOVED
_CAN_BE_UNDONE = DELETIONS.c.undo_until > now()


@retry_lost_transactions
class SqlDeletions:
    """DeletionStore on a SQL database."""

    _db: Database

    def remove_masters(self, deletion: NewDeletion, removals: Sequence[Removal]) -> set[UUID]:
        with self._db.write() as connection:
            rows = _lock_visible(connection, removals)
            done = [each for each in removals if _is_as_seen(each, rows)]
            ids = {id_ for each in done for id_ in each.revisions}
            if not ids:
                return ids
            _insert_deletion(connection, deletion)
            removed = FREE_LEASE | {
                "state": MasterState.REMOVED,
                "live_sha256": None,
                "deletion_id": deletion.id,
                "updated_at": now(),
            }
            connection.execute(MASTERS.update().where(MASTERS.c.id.in_(ids)).values(**removed))
            connection.execute(EMBEDDINGS.delete().where(EMBEDDINGS.c.master_id.in_(ids)))
            for removal in done:
                _merge_attributes(connection, deletion.id, removal, rows)
        return ids

    def find_deletion(self, deletion_id: UUID) -> Deletion | None:
        with self._db.read() as connection:
            row = connection.execute(_SELECT.where(DELETIONS.c.id == deletion_id)).first()
        return _deletion(row) if row else None

    def list_deletions(self, collection_id: UUID | None, limit: int) -> list[Deletion]:
        statement = _SELECT.where(_NUMBER > 0)
        if collection_id is not None:
            inside = _REMOVED.where(MASTERS.c.collection_id == collection_id).scalar_subquery()
            statement = statement.where(inside > 0)
        newest_first = (DELETIONS.c.created_at.desc(), DELETIONS.c.id.desc())
        with self._db.read() as connection:
            rows = connection.execute(statement.order_by(*newest_first).limit(limit)).all()
        return [_deletion(row) for row in rows]

    def list_removed(self, deletion_id: UUID) -> list[UUID]:
        statement = (
            sa.select(MASTERS.c.id)
            .join(DELETIONS, DELETIONS.c.id == MASTERS.c.deletion_id)
            .where(MASTERS.c.deletion_id == deletion_id, _IS_REMOVED, _CAN_BE_UNDONE)
        )
        with self._db.read() as connection:
            return list(connection.scalars(statement))

    def restore_attributes(self, deletion_id: UUID) -> int:
        with self._db.write() as connection:
            if not _lock_deletion(connection, deletion_id):
                return 0
            return _restore_attributes(connection, deletion_id)

    def restore_masters(self, deletion_id: UUID, ids: Sequence[UUID]) -> Restored:
        for attempt in range(_ATTEMPTS):
            try:
                with self._db.write() as connection:
                    return _restore(connection, deletion_id, ids)
            except sa.exc.IntegrityError:  # their bytes were uploaded at this moment
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError  # the loop has returned or raised

    def claim_removed(self, owner: str, limit: int, lease: float) -> list[UUID]:
        until = MASTERS.c.lease_until
        expired = sa.and_(until < _SETTLED["lease_until"], past(until))
        # One by one: each follows an index past the settled rows, which an OR would read.
        for is_due in (until.is_(None), expired):
            some = sa.select(MASTERS.c.id).where(_IS_REMOVED, is_due).limit(limit)
            with self._db.read() as connection:  # rarely any: check before taking the write lock
                if connection.execute(some.limit(1)).first() is None:
                    continue
            with self._db.write() as connection:
                ids = list(connection.scalars(some.with_for_update(skip_locked=True)))
                held = {"lease_owner": owner, "lease_until": from_now(lease)}
                connection.execute(MASTERS.update().where(MASTERS.c.id.in_(ids)).values(**held))
            if ids:
                return ids
        return []

    def settle_removed(self, ids: Sequence[UUID], owner: str) -> None:
        theirs = MASTERS.c.id.in_(ids)
        with self._db.write() as connection:
            settled = connection.execute(
                MASTERS.update()
                .where(theirs, _IS_REMOVED, MASTERS.c.lease_owner == owner)
                .values(**_SETTLED)
            )
            if settled.rowcount == len(ids):
                return
            stored = sa.select(MASTERS.c.id).where(theirs, MASTERS.c.state == MasterState.STORED)
            restored = connection.scalars(stored.with_for_update(read=True)).all()
            queued = FREE_LEASE | {"state": PENDING, "run_after": now()}
            connection.execute(
                EMBEDDINGS.update()
                .where(EMBEDDINGS.c.master_id.in_(restored))
                .where(EMBEDDINGS.c.state.in_((PENDING, INDEXED)))
                .values(**queued)
            )

    def expire_deletions(self, limit: int) -> int:
        due = sa.select(DELETIONS.c.id).where(DELETIONS.c.undo_until <= now()).limit(1)
        with self._db.read() as connection:  # rarely any: check before taking the write lock
            if connection.execute(due).first() is None:
                return 0
        with self._db.write() as connection:
            deletion_id = connection.scalar(due.with_for_update(skip_locked=True))
            if deletion_id is None:
                return 0
            removed = sa.select(MASTERS.c.id).where(
                MASTERS.c.deletion_id == deletion_id, _IS_REMOVED
            )
            ids = connection.scalars(removed.limit(limit).with_for_update()).all()
            connection.execute(
                MASTERS.update().where(MASTERS.c.id.in_(ids)).values(**deleting_values())
            )
            if len(ids) < limit:
                _forget_deletion(connection, deletion_id)
        return max(1, len(ids))


_OWN = COLLECTIONS.alias()
_REMOVED = (  # of the deletion in a row of DELETIONS; it may be of two collections
    sa.select(sa.func.count())
    .select_from(MASTERS)
    .join(COLLECTIONS, COLLECTIONS.c.id == MASTERS.c.collection_id)
    .where(MASTERS.c.deletion_id == DELETIONS.c.id, _IS_REMOVED, COLLECTIONS.c.state == LIVE)
    .correlate(DELETIONS)
)
_NUMBER = _REMOVED.scalar_subquery()
_OTHER_NAME = _REMOVED.with_only_columns(sa.func.min(COLLECTIONS.c.name)).scalar_subquery()
_NAME = sa.func.coalesce(_OWN.c.name, _OTHER_NAME)
_SELECT = (
    sa.select(*DELETIONS.c, _NAME.label("name"), _NUMBER.label("masters"))
    .outerjoin(_OWN, sa.and_(_OWN.c.id == DELETIONS.c.collection_id, _OWN.c.state == LIVE))
    .where(_NAME.is_not(None), _CAN_BE_UNDONE)
)


def _deletion(row: Any) -> Deletion:
    return Deletion(row.id, row.name, row.reason, row.created_at, row.undo_until, row.masters)


def _lock_visible(connection: sa.Connection, removals: Sequence[Removal]) -> dict[UUID, Any]:
    """Return the rows of the masters that are visible, by id; lock them and their collections."""
    ids = {id_ for each in removals for id_ in each.revisions}
    ids |= {each.kept.id for each in removals if each.kept is not None}
    theirs = MASTERS.c.id.in_(ids)
    live = _lock_live(
        connection, connection.scalars(sa.select(MASTERS.c.collection_id).where(theirs).distinct())
    )
    columns = MASTERS.c.id, MASTERS.c.revision, MASTERS.c.attributes
    visible = sa.select(*columns).where(
        theirs, MASTERS.c.state == MasterState.STORED, MASTERS.c.collection_id.in_(live)
    )
    # In the order of ids, so that two changes of the same masters do not wait for each other.
    locked = connection.execute(visible.order_by(MASTERS.c.id).with_for_update())
    return {row.id: row for row in locked}


def _lock_live(connection: sa.Connection, collection_ids: Iterable[UUID]) -> list[UUID]:
    """Return which of the collections are live, and keep them so until the transaction ends."""
    live = sa.select(COLLECTIONS.c.id).where(
        COLLECTIONS.c.id.in_(list(collection_ids)), COLLECTIONS.c.state == LIVE
    )
    return list(connection.scalars(live.order_by(COLLECTIONS.c.id).with_for_update(read=True)))


def _is_as_seen(removal: Removal, rows: dict[UUID, Any]) -> bool:
    seen = dict(removal.revisions)
    if removal.kept is not None:
        seen[removal.kept.id] = removal.kept.revision
    return all(id_ in rows and rows[id_].revision == revision for id_, revision in seen.items())


def _insert_deletion(connection: sa.Connection, deletion: NewDeletion) -> None:
    """Insert the row of a deletion, or lock it, so that it does not end meanwhile."""
    known = sa.select(DELETIONS.c.id).where(DELETIONS.c.id == deletion.id)
    if connection.execute(known.with_for_update()).first() is not None:
        return
    connection.execute(
        DELETIONS.insert().values(
            id=deletion.id,
            collection_id=deletion.collection_id,
            reason=deletion.reason,
            created_at=now(),
            undo_until=from_now(deletion.seconds),
        )
    )


def _merge_attributes(
    connection: sa.Connection, deletion_id: UUID, removal: Removal, rows: dict[UUID, Any]
) -> None:
    """Give the master that is kept its new attributes, and store the earlier ones."""
    kept = removal.kept
    if kept is None or kept.attributes is None:
        return
    connection.execute(
        MERGED_ATTRIBUTES.insert().values(
            deletion_id=deletion_id,
            master_id=kept.id,
            attributes=rows[kept.id].attributes,
            revision=kept.revision + 1,
        )
    )
    _set_attributes(connection, kept.id, kept.attributes)


def _set_attributes(connection: sa.Connection, master_id: UUID, attributes: Any) -> None:
    changed = {"attributes": attributes, "revision": MASTERS.c.revision + 1, "updated_at": now()}
    connection.execute(MASTERS.update().where(MASTERS.c.id == master_id).values(**changed))
    index_again(connection, [master_id])


def _lock_deletion(connection: sa.Connection, deletion_id: UUID) -> bool:
    """Return whether a deletion can be undone, and lock its row."""
    one = sa.select(DELETIONS.c.id).where(DELETIONS.c.id == deletion_id, _CAN_BE_UNDONE)
    return connection.execute(one.with_for_update()).first() is not None


def _forget_deletion(connection: sa.Connection, deletion_id: UUID) -> None:
    merged = MERGED_ATTRIBUTES.c.deletion_id == deletion_id
    connection.execute(MERGED_ATTRIBUTES.delete().where(merged))
    connection.execute(DELETIONS.delete().where(DELETIONS.c.id == deletion_id))


def _restore(connection: sa.Connection, deletion_id: UUID, ids: Sequence[UUID]) -> Restored:
    if not _lock_deletion(connection, deletion_id):
        return Restored()
    theirs = sa.and_(MASTERS.c.id.in_(ids), MASTERS.c.deletion_id == deletion_id, _IS_REMOVED)
    live = _lock_live(
        connection, connection.scalars(sa.select(MASTERS.c.collection_id).where(theirs).distinct())
    )
    columns = MASTERS.c.id, MASTERS.c.collection_id, MASTERS.c.sha256
    removed = sa.select(*columns, is_free(MASTERS.c.lease_until).label("free")).where(
        theirs, MASTERS.c.collection_id.in_(live)
    )
    rows = connection.execute(removed.order_by(MASTERS.c.id).with_for_update()).all()
    having = sa.select(MASTERS.c.id, MASTERS.c.collection_id, MASTERS.c.live_sha256).where(
        MASTERS.c.collection_id.in_(live), MASTERS.c.live_sha256.in_({row.sha256 for row in rows})
    )
    taken = {(row.collection_id, row.live_sha256): row.id for row in connection.execute(having)}
    restored = Restored()
    for row in rows:
        place = row.collection_id, row.sha256
        if place in taken:
            restored.conflicts[row.id] = taken[place]
        elif not row.free:
            restored.held.add(row.id)
        else:
            restored.masters.add(row.id)
            taken[place] = row.id
    _store_again(connection, restored.masters)
    compare_again(connection, restored.masters)
    left = sa.select(MASTERS.c.id).where(MASTERS.c.deletion_id == deletion_id, _IS_REMOVED)
    if connection.execute(left.limit(1)).first() is None:
        _forget_deletion(connection, deletion_id)
    return restored


def _store_again(connection: sa.Connection, ids: set[UUID]) -> None:
    if not ids:
        return
    stored = FREE_LEASE | {
        "state": MasterState.STORED,
        "live_sha256": MASTERS.c.sha256,
        "deletion_id": None,
        "revision": MASTERS.c.revision + 1,
        "updated_at": now(),
    }
    connection.execute(MASTERS.update().where(MASTERS.c.id.in_(ids)).values(**stored))
    live = lock_live_models(connection)
    embeddings = [
        new_embedding(master_id, version) | {"run_after": clock}
        for master_id in ids
        for version, clock in live.items()
    ]
    if embeddings:
        connection.execute(EMBEDDINGS.insert(), embeddings)


def _restore_attributes(connection: sa.Connection, deletion_id: UUID) -> int:
    of_deletion = MERGED_ATTRIBUTES.c.deletion_id == deletion_id
    merged = connection.execute(sa.select(MERGED_ATTRIBUTES).where(of_deletion)).all()
    if not merged:
        return 0
    before = {row.master_id: row for row in merged}
    unchanged = _lock_visible(
        connection, [Removal({row.master_id: row.revision for row in merged})]
    )
    count = 0
    for master_id, current in unchanged.items():
        if current.revision == before[master_id].revision:
            _set_attributes(connection, master_id, before[master_id].attributes)
            count += 1
    connection.execute(MERGED_ATTRIBUTES.delete().where(of_deletion))
    return count
