"""Whole decisions in the metadata database, to copy installations and to write the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, retry_lost_transactions
from storage.metadata.duplicates import DECISIONS, count_change
from storage.metadata.rows import KEPT, MASTERS
from storage.protocols.duplicates import DecidedPair, Decision, IdPair


@retry_lost_transactions
class SqlDecisionRecords:
    """DecisionRecordStore on a SQL database."""

    _db: Database

    def list_all_decisions(self, limit: int, after: IdPair | None) -> list[DecidedPair]:
        first, second = DECISIONS.c.first_id, DECISIONS.c.second_id
        statement = sa.select(DECISIONS).order_by(first, second).limit(limit)
        if after is not None:
            behind = sa.and_(first == after[0], second > after[1])
            statement = statement.where(first >= after[0], sa.or_(first > after[0], behind))
        with self._db.read() as connection:
            rows = connection.execute(statement).all()
        return [
            DecidedPair((row.first_id, row.second_id), Decision(row.decision), row.decided_at)
            for row in rows
        ]

    def import_decisions(self, decisions: Sequence[DecidedPair]) -> int:
        given = {each.masters: each for each in decisions}
        with self._db.write() as connection:
            collections = _lock_kept(connection, given)
            times = _read_times(connection, given)
            new = [
                each
                for pair, each in given.items()
                if collections.keys() >= set(pair) and each.decided_at > times.get(pair, -1)
            ]
            _delete_pairs(connection, [each.masters for each in new if each.masters in times])
            if new:
                connection.execute(DECISIONS.insert(), [_row_of(each) for each in new])
                count_change(connection, {collections[id_] for each in new for id_ in each.masters})
        return len(new)

    def forget_decisions(self, pairs: Sequence[IdPair]) -> None:
        with self._db.write() as connection:
            _delete_pairs(connection, pairs)
            count_change(connection, _lock_kept(connection, pairs).values())


def _lock_kept(connection: sa.Connection, pairs: Iterable[IdPair]) -> dict[UUID, UUID]:
    """Lock those of the masters that are stored or damaged; return the collection of each by id."""
    ids = {id_ for pair in pairs for id_ in pair}
    rows = sa.select(MASTERS.c.id, MASTERS.c.collection_id).where(
        MASTERS.c.id.in_(ids), MASTERS.c.state.in_(KEPT)
    )
    locked = connection.execute(rows.order_by(MASTERS.c.id).with_for_update())
    return {row.id: row.collection_id for row in locked}


def _read_times(connection: sa.Connection, pairs: Iterable[IdPair]) -> dict[IdPair, int]:
    """Return when the stored decisions were made, at least those about the pairs."""
    firsts, seconds = {first for first, _ in pairs}, {second for _, second in pairs}
    some = sa.select(DECISIONS).where(
        DECISIONS.c.first_id.in_(firsts), DECISIONS.c.second_id.in_(seconds)
    )
    return {(row.first_id, row.second_id): row.decided_at for row in connection.execute(some).all()}


def _delete_pairs(connection: sa.Connection, pairs: Sequence[IdPair]) -> None:
    if pairs:
        its_row = sa.and_(
            DECISIONS.c.first_id == sa.bindparam("first"),
            DECISIONS.c.second_id == sa.bindparam("second"),
        )
        values = [{"first": first, "second": second} for first, second in pairs]
        connection.execute(DECISIONS.delete().where(its_row), values)


def _row_of(decided: DecidedPair) -> dict[str, object]:
    first, second = decided.masters
    return {
        "first_id": first,
        "second_id": second,
        "decision": decided.decision,
        "decided_at": decided.decided_at,
    }
