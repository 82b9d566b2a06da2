"""The outbox of embeddings in the metadata database.

It records which embeddings are to be indexed, which process holds them, and how often they failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, past, retry_lost_transactions
from storage.metadata.rows import (
    DEAD,
    EMBEDDINGS,
    FREE_LEASE,
    INDEXED,
    KEPT,
    MASTERS,
    PENDING,
    SELECT_MASTERS,
    from_now,
    is_embedding,
    is_free,
    master_of,
    new_embedding,
)
from storage.records import DeadLetter, IndexTask, MasterState
from storage.shared_calls import NotTogether, SharedCalls

_MOST_FAILURE = 500  # characters of a failure that are kept

# Statements of every upload are made once, because making one takes longer than running it.
_LOCK_MASTERS = (
    sa.select(MASTERS.c.id, MASTERS.c.revision, MASTERS.c.state)
    .where(MASTERS.c.id.in_(sa.bindparam("ids", expanding=True)))
    # Without it, a small table would be read as a whole, and wait for rows that others have locked.
    .with_hint(MASTERS, "FORCE INDEX (PRIMARY)", "mysql")
    .with_for_update(read=True)
)
_MARK_INDEXED = (
    EMBEDDINGS.update()
    .where(
        EMBEDDINGS.c.master_id.in_(sa.bindparam("ids", expanding=True)),
        EMBEDDINGS.c.model_version == sa.bindparam("version"),
        sa.tuple_(EMBEDDINGS.c.master_id, EMBEDDINGS.c.lease_owner).in_(
            sa.bindparam("held", expanding=True)
        ),
    )
    .values(
        **FREE_LEASE
        | {
            "state": INDEXED,
            "indexed_revision": sa.bindparam("revision"),
            "attempts": 0,
            "failure": None,
        }
    )
)


@retry_lost_transactions
class SqlEmbeddingOutbox:
    """EmbeddingOutbox on a SQL database."""

    _db: Database
    _marks: SharedCalls[tuple[IndexTask, str], bool]  # for servers

    def claim_embeddings(
        self, versions: Sequence[str], owner: str, limit: int, lease: float
    ) -> list[IndexTask]:
        is_stored = sa.exists().where(
            MASTERS.c.id == EMBEDDINGS.c.master_id, MASTERS.c.state == MasterState.STORED
        )
        due = sa.and_(
            EMBEDDINGS.c.state == PENDING,
            past(EMBEDDINGS.c.run_after),
            is_free(EMBEDDINGS.c.lease_until),
            EMBEDDINGS.c.model_version.in_(versions),
            is_stored,
        )
        some = sa.select(EMBEDDINGS).where(due).order_by(EMBEDDINGS.c.run_after).limit(limit)
        with self._db.read() as connection:  # often none: check before taking the write lock
            if connection.execute(some.limit(1)).first() is None:
                return []
        with self._db.write() as connection:
            # Without a join: MariaDB would also lock the masters and their collections.
            claimed = connection.execute(some.with_for_update(skip_locked=True)).all()
            for row in claimed:
                connection.execute(
                    EMBEDDINGS.update()
                    .where(is_embedding(row.master_id, row.model_version))
                    .values(lease_owner=owner, lease_until=from_now(lease))
                )
            theirs = MASTERS.c.id.in_([row.master_id for row in claimed])
            masters = {row.id: row for row in connection.execute(SELECT_MASTERS.where(theirs))}
        return [
            IndexTask(master_of(masters[row.master_id]), row.model_version, row.attempts)
            for row in claimed
        ]

    def claim_embedding(self, master_id: UUID, version: str, owner: str, lease: float) -> bool:
        free = sa.or_(EMBEDDINGS.c.lease_owner == owner, is_free(EMBEDDINGS.c.lease_until))
        available = sa.and_(EMBEDDINGS.c.state == PENDING, free)
        with self._db.write() as connection:
            result = connection.execute(
                EMBEDDINGS.update()
                .where(is_embedding(master_id, version), available)
                .values(lease_owner=owner, lease_until=from_now(lease))
            )
        return result.rowcount == 1

    def is_indexed(self, master_id: UUID, version: str) -> bool:
        state = sa.select(EMBEDDINGS.c.state).where(is_embedding(master_id, version))
        with self._db.read() as connection:
            return connection.scalar(state) == INDEXED

    def reserve_write(self, task: IndexTask, owner: str, lease: float) -> bool:
        pending = sa.and_(
            is_embedding(task.master.id, task.model_version), EMBEDDINGS.c.state == PENDING
        )
        leased = {"lease_owner": owner, "lease_until": from_now(lease)}
        with self._db.write() as connection:
            if _is_current(task, _lock_masters(connection, [task]).get(task.master.id)):
                result = connection.execute(EMBEDDINGS.update().where(pending).values(**leased))
                return result.rowcount == 1
            connection.execute(
                EMBEDDINGS.update().where(_is_leased(task, owner)).values(**FREE_LEASE)
            )
        return False

    def mark_indexed(self, task: IndexTask, owner: str) -> bool:
        if self._db.embedded:
            return self._mark_together([(task, owner)])[0]
        same = task.model_version, task.master.revision
        return self._marks.send((task, owner), group=same, key=task.master.id)

    def _mark_together(self, leased: list[tuple[IndexTask, str]]) -> list[bool]:
        """Mark embeddings of one version at one revision as indexed.

        Raises NotTogether if there are several and any cannot be marked.
        """
        with self._db.write() as connection:
            masters = _lock_masters(connection, [task for task, _ in leased])
            current = [_is_current(task, masters.get(task.master.id)) for task, _ in leased]
            if all(current) and _mark_all(connection, leased):
                return current
            if len(leased) > 1:
                raise NotTogether
            ((task, owner),) = leased
            _leave_unmarked(connection, task, owner, masters.get(task.master.id))
            return [False]

    def retry_embedding(
        self, task: IndexTask, owner: str, failure: str, delay: float | None
    ) -> None:
        counted = FREE_LEASE | {
            "attempts": EMBEDDINGS.c.attempts + 1,
            "failure": failure[:_MOST_FAILURE],
        }
        due = {"state": DEAD} if delay is None else {"run_after": from_now(delay)}
        self._update_leased(task, owner, counted | due)

    def release_embedding(self, task: IndexTask, owner: str, delay: float) -> None:
        self._update_leased(task, owner, FREE_LEASE | {"run_after": from_now(delay)})

    def _update_leased(self, task: IndexTask, owner: str, changes: dict[str, Any]) -> None:
        with self._db.write() as connection:
            connection.execute(EMBEDDINGS.update().where(_is_leased(task, owner)).values(**changes))

    def requeue_embedding(
        self, master_id: UUID, version: str, indexed_revision: int | None
    ) -> bool:
        one = is_embedding(master_id, version)
        stored = sa.select(MASTERS.c.id).where(
            MASTERS.c.id == master_id, MASTERS.c.state == MasterState.STORED
        )
        with self._db.write() as connection:
            if connection.execute(stored.with_for_update(read=True)).first() is None:
                return False
            if indexed_revision is not None:
                as_seen = sa.and_(
                    one,
                    EMBEDDINGS.c.state == INDEXED,
                    EMBEDDINGS.c.indexed_revision == indexed_revision,
                )
                pending = {"state": PENDING, "attempts": 0, "run_after": now()}
                result = connection.execute(EMBEDDINGS.update().where(as_seen).values(**pending))
                return result.rowcount == 1
            if connection.execute(sa.select(EMBEDDINGS.c.state).where(one)).first() is not None:
                return False
            connection.execute(EMBEDDINGS.insert().values(new_embedding(master_id, version)))
        return True

    def list_dead_letters(self, limit: int) -> list[DeadLetter]:
        statement = (
            SELECT_MASTERS.add_columns(
                EMBEDDINGS.c.model_version, EMBEDDINGS.c.attempts, EMBEDDINGS.c.failure
            )
            .join(EMBEDDINGS, EMBEDDINGS.c.master_id == MASTERS.c.id)
            .where(EMBEDDINGS.c.state == DEAD, MASTERS.c.state.in_(KEPT))
            .order_by(MASTERS.c.id)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                DeadLetter(master_of(row), row.model_version, row.attempts, row.failure or "")
                for row in connection.execute(statement)
            ]

    def requeue_dead_letters(self) -> int:
        pending = {"state": PENDING, "attempts": 0, "run_after": now()}
        with self._db.write() as connection:
            return connection.execute(
                EMBEDDINGS.update().where(EMBEDDINGS.c.state == DEAD).values(**pending)
            ).rowcount

    def count_pending_embeddings(self) -> int:
        return self._count_in_state(PENDING)

    def count_dead_letters(self) -> int:
        return self._count_in_state(DEAD)

    def _count_in_state(self, state: str) -> int:
        number = sa.select(sa.func.count()).where(EMBEDDINGS.c.state == state)
        with self._db.read() as connection:
            return connection.scalar(number) or 0


def _is_leased(task: IndexTask, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        is_embedding(task.master.id, task.model_version), EMBEDDINGS.c.lease_owner == owner
    )


def _lock_masters(connection: sa.Connection, tasks: Sequence[IndexTask]) -> dict[UUID, Any]:
    """Return the revisions and the states of the masters by id, and lock their rows.

    The rows are locked first, as update_master does: a subquery would read one before a change that
    is under way is committed.
    """
    ids = [task.master.id for task in tasks]
    return {row.id: row for row in connection.execute(_LOCK_MASTERS, {"ids": ids})}


def _mark_all(connection: sa.Connection, leased: Sequence[tuple[IndexTask, str]]) -> bool:
    """Mark the embeddings that are leased to the owner beside them.

    Returns whether these are all of them.
    """
    first, _ = leased[0]
    marked = connection.execute(
        _MARK_INDEXED,
        {
            "ids": [task.master.id for task, _ in leased],
            "version": first.model_version,
            "held": [(task.master.id, owner) for task, owner in leased],
            "revision": first.master.revision,
        },
    )
    return marked.rowcount == len(leased)


def _leave_unmarked(connection: sa.Connection, task: IndexTask, owner: str, master: Any) -> None:
    """Free the lease of an embedding that was changed meanwhile, or queue it again if it is lost.

    If another process holds the lease, the vector of this one may have replaced its vector.
    """
    freed = connection.execute(
        EMBEDDINGS.update().where(_is_leased(task, owner)).values(**FREE_LEASE)
    )
    if freed.rowcount == 0 and master and master.revision != task.master.revision:
        _requeue_overwritten(connection, task)


def _is_current(task: IndexTask, master: Any) -> bool:
    expected = (task.master.revision, MasterState.STORED)
    return master is not None and (master.revision, master.state) == expected


def _requeue_overwritten(connection: sa.Connection, task: IndexTask) -> None:
    """Queue the embedding again, and end the lease of any process that is writing it.

    That process may have written its vector just before the late one replaced it.
    """
    overwritten = sa.and_(
        is_embedding(task.master.id, task.model_version),
        EMBEDDINGS.c.state.in_((PENDING, INDEXED)),
    )
    queued = FREE_LEASE | {"state": PENDING, "run_after": now()}
    connection.execute(EMBEDDINGS.update().where(overwritten).values(**queued))
