"""What people decided about near-identical masters, in the metadata database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.metadata.rows import COLLECTIONS, LIVE, MASTERS
from storage.protocols.duplicates import DecidedPair, Decision, IdPair
from storage.records import MasterState
from storage.tables import DuplicateDecisionRow, DuplicateScanRow, table_of

DECISIONS = table_of(DuplicateDecisionRow)
SCANS = table_of(DuplicateScanRow)


@retry_lost_transactions
class SqlDecisions:
    """DecisionStore on a SQL database."""

    _db: Database

    def save_decisions(self, ids: Sequence[UUID], decision: Decision) -> set[UUID]:
        with self._db.write() as connection:
            collections = lock_visible(connection, ids)
            missing = set(ids) - collections.keys()
            if missing or len(collections) < 2:
                return missing
            connection.execute(DECISIONS.delete().where(_is_between(ids)))
            values = {"decision": decision, "decided_at": now()}
            rows = [
                {"first_id": first, "second_id": second}
                for first, second in combinations(sorted(collections), 2)
            ]
            connection.execute(DECISIONS.insert().values(**values), rows)
            count_change(connection, collections.values())
        return missing

    def remove_decisions(self, ids: Sequence[UUID]) -> int:
        its_collections = sa.select(MASTERS.c.collection_id).where(MASTERS.c.id.in_(ids))
        with self._db.write() as connection:
            removed = connection.execute(DECISIONS.delete().where(_is_between(ids))).rowcount
            if removed:
                count_change(connection, connection.scalars(its_collections.distinct()))
        return removed

    def list_decisions(
        self, collection_ids: Sequence[UUID], limit: int, after: IdPair | None
    ) -> list[DecidedPair]:
        first, second = DECISIONS.c.first_id, DECISIONS.c.second_id
        visible, inside = [], []
        for column in (first, second):
            master = MASTERS.alias()
            collection = COLLECTIONS.alias()
            visible.append((master, collection, column))
            inside.append(master.c.collection_id.in_(collection_ids))
        statement = sa.select(DECISIONS).where(sa.or_(*inside))
        for master, collection, column in visible:
            statement = statement.join(master, master.c.id == column).join(
                collection, collection.c.id == master.c.collection_id
            )
            statement = statement.where(
                master.c.state == MasterState.STORED, collection.c.state == LIVE
            )
        if after is not None:
            behind = sa.and_(first == after[0], second > after[1])
            statement = statement.where(first >= after[0], sa.or_(first > after[0], behind))
        with self._db.read() as connection:
            rows = connection.execute(statement.order_by(first, second).limit(limit)).all()
        return [
            DecidedPair((row.first_id, row.second_id), Decision(row.decision), row.decided_at)
            for row in rows
        ]


def _is_between(ids: Sequence[UUID]) -> sa.ColumnElement[bool]:
    """Return the condition that a row is about two of the masters."""
    return sa.and_(DECISIONS.c.first_id.in_(ids), DECISIONS.c.second_id.in_(ids))


def lock_visible(connection: sa.Connection, ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Lock the visible ones of these masters; return the collection of each by its id.

    So none of them is forgotten before what refers to it is committed.
    """
    rows = sa.select(MASTERS.c.id, MASTERS.c.collection_id).where(
        MASTERS.c.id.in_(ids), MASTERS.c.state == MasterState.STORED
    )
    # In the order of ids, so that two changes of the same masters do not wait for each other.
    stored = {
        row.id: row.collection_id
        for row in connection.execute(rows.order_by(MASTERS.c.id).with_for_update())
    }
    is_live = sa.and_(COLLECTIONS.c.id.in_(set(stored.values())), COLLECTIONS.c.state == LIVE)
    live = sa.select(COLLECTIONS.c.id).where(is_live).with_for_update(read=True)
    live_ids = set(connection.scalars(live))
    return {id_: collection for id_, collection in stored.items() if collection in live_ids}


def count_change(connection: sa.Connection, collection_ids: Iterable[UUID], **values: Any) -> None:
    """Raise the changes of the scans of these collections by one, and set the values."""
    some = set(collection_ids)
    either = sa.or_(SCANS.c.collection_id.in_(some), SCANS.c.other_id.in_(some))
    connection.execute(SCANS.update().where(either).values(changes=SCANS.c.changes + 1, **values))
