"""Scans for near-identical masters in the metadata database, and what they found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from storage.database import Database, now, retry_lost_transactions
from storage.errors import CollectionGone
from storage.metadata.duplicates import DECISIONS, SCANS, count_change, lock_visible
from storage.metadata.rows import COLLECTIONS, EMBEDDINGS, INDEXED, LIVE, MASTERS, PENDING
from storage.protocols.duplicates import DuplicatePair, DuplicateScan, IdPair, RawPair, Unchecked
from storage.records import MasterState, new_id
from storage.tables import DuplicateCheckRow, DuplicatePairRow, LocalFeaturesRow, table_of

_FEATURES = table_of(LocalFeaturesRow)
_CHECKS = table_of(DuplicateCheckRow)
_PAIRS = table_of(DuplicatePairRow)
_IS_LIVE = sa.and_(
    *(
        sa.exists().where(COLLECTIONS.c.id == column, COLLECTIONS.c.state == LIVE)
        for column in (SCANS.c.collection_id, SCANS.c.other_id)
    )
)


@retry_lost_transactions
class SqlFeatures:
    """FeatureStore on a SQL database."""

    _db: Database

    def find_features(self, ids: Sequence[UUID], format: int) -> dict[UUID, bytes]:
        some = sa.and_(_FEATURES.c.master_id.in_(ids), _FEATURES.c.format == format)
        with self._db.read() as connection:
            rows = connection.execute(sa.select(_FEATURES).where(some)).all()
        return {row.master_id: row.features for row in rows}

    def save_features(self, features: Mapping[UUID, bytes], format: int) -> None:
        with self._db.write() as connection:
            visible = lock_visible(connection, features)
            rows = [
                {"master_id": master_id, "format": format, "features": features[master_id]}
                for master_id in visible
            ]
            if rows:
                connection.execute(_FEATURES.delete().where(_FEATURES.c.master_id.in_(visible)))
                connection.execute(_FEATURES.insert(), rows)


@retry_lost_transactions
class SqlScans:
    """ScanStore on a SQL database."""

    _db: Database

    def start_scan(
        self, collection_id: UUID, other_id: UUID, space: str, max_distance: float
    ) -> DuplicateScan:
        both = sorted((collection_id, other_id))
        with self._db.write() as connection:
            live = sa.select(COLLECTIONS.c.id).where(
                COLLECTIONS.c.id.in_(both), COLLECTIONS.c.state == LIVE
            )
            # Locked, so that two calls do not both create the scan.
            locked = connection.scalars(live.order_by(COLLECTIONS.c.id).with_for_update()).all()
            if set(locked) != set(both):
                raise CollectionGone(str(collection_id))
            its_row = _is_scan(both, space)
            same = sa.and_(its_row, SCANS.c.max_distance == max_distance)
            if not connection.execute(
                SCANS.update().where(same).values(completed_at=None)
            ).rowcount:
                connection.execute(SCANS.delete().where(its_row))
                connection.execute(
                    SCANS.insert().values(
                        id=new_id(),
                        collection_id=both[0],
                        other_id=both[1],
                        space=space,
                        max_distance=max_distance,
                        changes=0,
                        created_at=now(),
                    )
                )
            return _scan_of(connection.execute(sa.select(SCANS).where(its_row)).one())

    def find_scan(self, collection_id: UUID, other_id: UUID, space: str) -> DuplicateScan | None:
        its_row = _is_scan(sorted((collection_id, other_id)), space)
        with self._db.read() as connection:
            row = connection.execute(sa.select(SCANS).where(its_row, _IS_LIVE)).first()
        return None if row is None else _scan_of(row)

    def list_scans(self) -> list[DuplicateScan]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(SCANS).where(_IS_LIVE).order_by(SCANS.c.id)).all()
        return [_scan_of(row) for row in rows]

    def end_scan(self, scan_id: UUID) -> bool:
        with self._db.write() as connection:
            return connection.execute(SCANS.delete().where(SCANS.c.id == scan_id)).rowcount == 1

    def complete_scan(self, scan_id: UUID) -> None:
        running = sa.and_(SCANS.c.id == scan_id, SCANS.c.completed_at.is_(None))
        with self._db.write() as connection:
            connection.execute(SCANS.update().where(running).values(completed_at=now()))

    def remove_leftovers(self, limit: int) -> int:
        removed = 0
        with self._db.write() as connection:
            known = set(connection.scalars(sa.select(SCANS.c.id)))
            for table in (_CHECKS, _PAIRS):
                gone = _find_gone(connection, table, known)
                if gone is not None and removed < limit:
                    removed += _remove_some(connection, table, gone, limit - removed)
        return removed

    def list_unchecked(
        self, scan_id: UUID, version: str, collection_id: UUID, after: UUID | None, limit: int
    ) -> Unchecked:
        part = [MASTERS.c.collection_id == collection_id, MASTERS.c.state == MasterState.STORED]
        if after is not None:
            part.append(MASTERS.c.id > after)
        last = sa.select(MASTERS.c.id).where(*part).order_by(MASTERS.c.id)
        with self._db.read() as connection:
            end = connection.scalar(last.offset(limit - 1).limit(1))
            if end is not None:
                part.append(MASTERS.c.id <= end)
            rows = connection.execute(_select_unchecked(scan_id, version, part)).all()
        ids = [row.id for row in rows if row.state == INDEXED]
        return Unchecked(ids, len(rows) - len(ids), end)

    def save_checks(
        self, scan_id: UUID, version: str, ids: Sequence[UUID], pairs: Sequence[DuplicatePair]
    ) -> bool:
        named = {*ids, *(id_ for pair in pairs for id_ in pair.masters)}
        with self._db.write() as connection:
            # Masters before the scan, in the same order as a decision locks them.
            visible = lock_visible(connection, named)
            scan = sa.select(SCANS.c.id).where(SCANS.c.id == scan_id).with_for_update()
            if connection.execute(scan).first() is None:
                return False
            checked = [id_ for id_ in ids if id_ in visible]
            if checked:
                _save_checked(connection, scan_id, version, checked)
            kept = [pair for pair in pairs if set(pair.masters) <= visible.keys()]
            if kept and _save_pairs(connection, scan_id, kept):
                more = SCANS.update().where(SCANS.c.id == scan_id)
                connection.execute(more.values(changes=SCANS.c.changes + 1))
        return True

    def count_checked(self, scan_id: UUID, version: str) -> int:
        return self._count(_CHECKS.c.scan_id == scan_id, _CHECKS.c.model_version == version)

    def count_pairs(self, scan_id: UUID) -> int:
        return self._count(_PAIRS.c.scan_id == scan_id)

    def _count(self, *conditions: sa.ColumnElement[bool]) -> int:
        with self._db.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).where(*conditions)) or 0

    def list_pairs(self, scan_id: UUID, limit: int, after: IdPair | None) -> list[RawPair]:
        first, second = _PAIRS.c.first_id, _PAIRS.c.second_id
        raw = (sa.type_coerce(column, sa.LargeBinary) for column in (first, second))
        columns: list[sa.ColumnElement[Any]] = [*raw, _PAIRS.c.common, _PAIRS.c.distance]
        statement = sa.select(*columns).where(_PAIRS.c.scan_id == scan_id)
        for column in (first, second):
            master = MASTERS.alias()
            statement = statement.join(master, master.c.id == column)
            statement = statement.where(master.c.state == MasterState.STORED)
        if after is not None:
            behind = sa.and_(first == after[0], second > after[1])
            statement = statement.where(first >= after[0], sa.or_(first > after[0], behind))
        with self._db.read() as connection:
            rows = connection.execute(statement.order_by(first, second).limit(limit))
            return [RawPair(*row) for row in rows]


def forget_duplicates(connection: sa.Connection, master_id: UUID) -> None:
    """Remove what is known about the duplicates of a master."""
    for table in (_FEATURES, _CHECKS):
        connection.execute(table.delete().where(table.c.master_id == master_id))
    for table in (DECISIONS, _PAIRS):
        for column in (table.c.first_id, table.c.second_id):  # each has an index
            connection.execute(table.delete().where(column == master_id))


def forget_features(connection: sa.Connection, master_id: UUID) -> None:
    """Remove the features of a master whose bytes were written again."""
    connection.execute(_FEATURES.delete().where(_FEATURES.c.master_id == master_id))


def compare_again(connection: sa.Connection, ids: Collection[UUID]) -> None:
    """Let scans compare masters again that have become visible; these are complete no longer."""
    if not ids:
        return
    connection.execute(_CHECKS.delete().where(_CHECKS.c.master_id.in_(ids)))
    theirs = sa.select(MASTERS.c.collection_id).where(MASTERS.c.id.in_(ids)).distinct()
    count_change(connection, connection.scalars(theirs), completed_at=None)


def remove_scans(connection: sa.Connection, collection_id: UUID) -> None:
    """Remove the scans of a collection."""
    either = sa.or_(SCANS.c.collection_id == collection_id, SCANS.c.other_id == collection_id)
    connection.execute(SCANS.delete().where(either))


def _is_scan(both: Sequence[UUID], space: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row is the scan of two collections, the smaller id first."""
    return sa.and_(
        SCANS.c.collection_id == both[0], SCANS.c.other_id == both[1], SCANS.c.space == space
    )


def _scan_of(row: Any) -> DuplicateScan:
    return DuplicateScan(
        id=row.id,
        collection_id=row.collection_id,
        other_id=row.other_id,
        space=row.space,
        max_distance=row.max_distance,
        changes=row.changes,
        created_at=row.created_at,
        completed_at=row.completed_at,
    )


def _select_unchecked(
    scan_id: UUID, version: str, part: Sequence[sa.ColumnElement[bool]]
) -> sa.Select[Any]:
    """Return the masters in that part that were not compared, with the states of their embeddings.

    Those without an embedding, and dead letters, are left out.
    """
    its_embedding = sa.and_(
        EMBEDDINGS.c.master_id == MASTERS.c.id, EMBEDDINGS.c.model_version == version
    )
    its_check = sa.and_(
        _CHECKS.c.scan_id == scan_id,
        _CHECKS.c.master_id == MASTERS.c.id,
        _CHECKS.c.model_version == version,
    )
    return (
        sa.select(MASTERS.c.id, EMBEDDINGS.c.state)
        .join(EMBEDDINGS, its_embedding)
        .where(*part, EMBEDDINGS.c.state.in_((INDEXED, PENDING)), ~sa.exists().where(its_check))
        .order_by(MASTERS.c.id)
    )


def _save_checked(
    connection: sa.Connection, scan_id: UUID, version: str, ids: Sequence[UUID]
) -> None:
    """Save that masters were compared by a model version."""
    earlier = sa.and_(_CHECKS.c.scan_id == scan_id, _CHECKS.c.master_id.in_(ids))
    connection.execute(_CHECKS.delete().where(earlier))
    connection.execute(
        _CHECKS.insert().values(scan_id=scan_id, model_version=version),
        [{"master_id": master_id} for master_id in ids],
    )


def _save_pairs(connection: sa.Connection, scan_id: UUID, pairs: Sequence[DuplicatePair]) -> bool:
    """Save pairs, and return whether any is new or has other values than before."""
    new = {pair.masters: (pair.common, pair.distance) for pair in pairs}
    earlier = sa.and_(
        _PAIRS.c.scan_id == scan_id,
        _PAIRS.c.first_id.in_({first for first, _ in new}),
        _PAIRS.c.second_id.in_({second for _, second in new}),
    )
    for row in connection.execute(sa.select(_PAIRS).where(earlier)).all():
        masters = row.first_id, row.second_id
        if new.get(masters) == (row.common, row.distance):
            del new[masters]
        elif masters in new:
            its_row = sa.and_(_PAIRS.c.first_id == masters[0], _PAIRS.c.second_id == masters[1])
            connection.execute(_PAIRS.delete().where(_PAIRS.c.scan_id == scan_id, its_row))
    rows = [
        {"first_id": first, "second_id": second, "common": common, "distance": distance}
        for (first, second), (common, distance) in new.items()
    ]
    if rows:
        connection.execute(_PAIRS.insert().values(scan_id=scan_id), rows)
    return bool(rows)


def _find_gone(connection: sa.Connection, table: sa.Table, known: set[UUID]) -> UUID | None:
    """Return a scan that has results in the table but is not known.

    Each step skips the results of one scan, which an index makes cheap.
    """
    scan_id = None
    while True:
        next_one = sa.select(table.c.scan_id).order_by(table.c.scan_id).limit(1)
        if scan_id is not None:
            next_one = next_one.where(table.c.scan_id > scan_id)
        scan_id = connection.scalar(next_one)
        if scan_id is None or scan_id not in known:
            return scan_id


def _remove_some(connection: sa.Connection, table: sa.Table, scan_id: UUID, limit: int) -> int:
    """Remove up to ``limit`` results of a scan, and return their number."""
    keys = [column for column in table.primary_key if column.name != "scan_id"]
    some = sa.select(*keys).where(table.c.scan_id == scan_id).order_by(*keys).limit(limit)
    rows = connection.execute(some).all()
    its_key = sa.and_(*(column == sa.bindparam(f"its_{column.name}") for column in keys))
    values = [{f"its_{column.name}": row[n] for n, column in enumerate(keys)} for row in rows]
    connection.execute(table.delete().where(table.c.scan_id == scan_id, its_key), values)
    return len(rows)
