"""Lists of masters in the metadata database: pages in any order, fields, and numbers by month."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from storage import filters_sql
from storage.database import Database, retry_lost_transactions
from storage.filters import Filter, count_conditions
from storage.list_records import MasterFields, Months, Page, Position, count_by_month
from storage.metadata.attribute_index import AttributeIndex
from storage.metadata.orders import Segment, list_segments, select_by_path
from storage.metadata.rows import (
    MASTERS,
    RAW_ID,
    SELECT_MASTERS,
    find_by_ids,
    is_inside,
    master_of,
)
from storage.records import BUILT_IN_FIELDS, CAPTURE, Master, MasterState
from storage.sorting import NEWEST_FIRST, Sort, position_of

_MOST_IN_SQL = 2  # conditions of a filter, each of which SQLite parses every row for
_DAY = 86_400_000  # milliseconds
_EARLIEST = 400 * 366  # days before 1970, so that no day has a negative number


@retry_lost_transactions
class SqlLists:
    """ListStore on a SQL database."""

    _db: Database
    _index: AttributeIndex

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: Position | None,
        offset: int = 0,
        sort: Sort = NEWEST_FIRST,
    ) -> Page:
        with self._db.read() as connection:
            if self._uses_index(filter) or (self._db.embedded and not sort.by_column):
                ids, total = self._list_ids(connection, collection_id, filter, after, sort)
                some = [UUID(bytes=id_) for id_ in ids[offset : offset + limit + 1]]
                masters = _read(connection, some)
                return _make_page(masters, limit, total, sort)
            inside = self._is_inside(collection_id, filter)
            if sort.by_column:
                segments = list_segments(sort, after, embedded=self._db.embedded)
                masters = _read_segments(connection, inside, segments, limit + 1, offset)
            else:
                statement = select_by_path(sort, inside, after, limit + 1, offset)
                masters = [master_of(row) for row in connection.execute(statement)]
            return _make_page(masters, limit, _count(connection, inside), sort)

    def _uses_index(self, filter: Filter | None) -> bool:
        long = filter is not None and count_conditions(filter) > _MOST_IN_SQL
        return self._db.embedded and long

    def _list_ids(
        self,
        connection: sa.Connection,
        collection_id: UUID,
        filter: Filter | None,
        after: Position | None,
        sort: Sort,
    ) -> tuple[list[bytes], int]:
        """Return the ids behind a position, and the number of all, from the index in memory."""
        if sort.by_id or not sort.by_column:
            return self._index.list_ids(connection, collection_id, filter, after, sort)
        selected = set(self._index.select(connection, collection_id, filter))
        ids = []
        for segment in list_segments(sort, after, embedded=True):
            inside = sa.and_(is_inside(collection_id), segment.condition)
            statement = _SELECT_IDS.where(inside).order_by(*segment.order)
            ids += [id_ for id_ in connection.scalars(statement) if id_ in selected]
        return ids, len(selected)

    def count_masters(self, collection_id: UUID) -> int:
        with self._db.read() as connection:
            return _count(connection, is_inside(collection_id))

    def count_months(self, collection_id: UUID, filter: Filter | None) -> Months:
        operator = "/" if self._db.embedded else "DIV"  # of whole numbers
        day = (MASTERS.c.captured_at + _EARLIEST * _DAY).op(operator, precedence=8)(_DAY)
        is_unread = MASTERS.c.capture.is_(None)
        with self._db.read() as connection:
            if self._uses_index(filter):
                selected = set(self._index.select(connection, collection_id, filter))
                each = SELECT_MASTERS.with_only_columns(RAW_ID, day, is_unread)
                rows = connection.execute(each.where(is_inside(collection_id)))
                found = [(number, unread, 1) for id_, number, unread in rows if id_ in selected]
            else:
                inside = self._is_inside(collection_id, filter)
                found = _count_days(connection, inside, day, is_unread)
        return Months(
            count_by_month(
                (day - _EARLIEST, number) for day, _, number in found if day is not None
            ),
            sum(number for day, unread, number in found if day is None and not unread),
            sum(number for day, unread, number in found if day is None and unread),
        )

    def _is_inside(self, collection_id: UUID, filter: Filter | None) -> sa.ColumnElement[bool]:
        inside = is_inside(collection_id)
        if filter is None:
            return inside
        dialect = self._db.url.get_backend_name()
        return sa.and_(inside, filters_sql.condition(filter, MASTERS.c, dialect))

    def list_fields(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[MasterFields]:
        columns = [MASTERS.c[field] for field in (*BUILT_IN_FIELDS, CAPTURE)]
        statement = (
            sa.select(MASTERS.c.id, MASTERS.c.attributes, *columns)
            .where(MASTERS.c.collection_id == collection_id, MASTERS.c.state == MasterState.STORED)
            .order_by(MASTERS.c.id.desc())
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(MASTERS.c.id < after)
        with self._db.read() as connection:
            return [
                MasterFields(id_, attributes, _built_in(values))
                for id_, attributes, *values in connection.execute(statement)
            ]


_SELECT_IDS = SELECT_MASTERS.with_only_columns(RAW_ID)


def _count_days(
    connection: sa.Connection,
    inside: sa.ColumnElement[bool],
    day: sa.ColumnElement[int],
    is_unread: sa.ColumnElement[bool],
) -> list[tuple[int | None, bool, int]]:
    """Return the number of masters by day and by whether they are unread.

    Two statements, because an index holds all that is needed of the dated masters.
    """
    time, count = MASTERS.c.captured_at, sa.func.count()
    dated = SELECT_MASTERS.with_only_columns(day, sa.false(), count).group_by(day)
    undated = SELECT_MASTERS.with_only_columns(sa.null(), is_unread, count).group_by(is_unread)
    return [
        (number, bool(unread), masters)
        for statement in (dated.where(time.is_not(None)), undated.where(time.is_(None)))
        for number, unread, masters in connection.execute(statement.where(inside))
    ]


def _built_in(values: Sequence[object]) -> dict[str, object]:
    *fields, capture = values
    return dict(zip(BUILT_IN_FIELDS, fields, strict=True)) | {CAPTURE: capture or {}}


def _read(connection: sa.Connection, ids: Sequence[UUID]) -> list[Master]:
    """Return the masters with these ids, in that order."""
    found = find_by_ids(connection, ids, sa.true())
    return [found[id_] for id_ in ids]


def _read_segments(
    connection: sa.Connection,
    inside: sa.ColumnElement[bool],
    segments: Sequence[Segment],
    limit: int,
    offset: int,
) -> list[Master]:
    masters: list[Master] = []
    for segment in segments:
        statement = SELECT_MASTERS.where(inside, segment.condition).order_by(*segment.order)
        statement = statement.limit(limit - len(masters)).offset(offset)
        rows = connection.execute(statement).all()
        masters += [master_of(row) for row in rows]
        if len(masters) == limit:
            break
        # What the offset skips in this segment, the next one need not.
        skipped = (
            _count(connection, sa.and_(inside, segment.condition))
            if offset and not rows
            else offset
        )
        offset -= skipped
    return masters


def _make_page(masters: list[Master], limit: int, total: int, sort: Sort) -> Page:
    """Return a page of ``limit`` masters, of which one more was read if there are more."""
    more = len(masters) > limit
    return Page(masters[:limit], position_of(masters[limit - 1], sort) if more else None, total)


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    statement = SELECT_MASTERS.with_only_columns(sa.func.count()).where(condition)
    return connection.scalar(statement) or 0
