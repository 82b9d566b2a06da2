"""The orders of lists in SQL, and the conditions for what is behind a position.

A list is read as one segment or as two: the masters that have a value, and those that have none.
If the column has an index, the order of each segment is that of the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.columns import UuidBytes
from storage.filters import Path
from storage.filters_sql import capture_document, lacks_attribute
from storage.json_sql import Condition, MySql, Value, json_path
from storage.list_records import Position
from storage.metadata.rows import MASTERS, SELECT_MASTERS
from storage.records import BUILT_IN_FIELDS, CAPTURE
from storage.sorting import MAX_TEXT, NAME, NO_RANK, Sort, rank_of

_EVERY = 2**62


@dataclass(frozen=True)
class Segment:
    """The masters of a part of a list that are behind a position, and their order."""

    condition: Condition
    order: Sequence[Value]


def list_segments(sort: Sort, after: Position | None, *, embedded: bool) -> list[Segment]:
    """Return the segments that are behind ``after`` of a list that is sorted by a column."""
    by_id = _Order([MASTERS.c.id], sort, embedded)
    last_id = None if after is None else [sa.literal(after.id, UuidBytes)]
    if sort.by_id:
        return [by_id.behind(sa.true(), last_id)]
    last: list[Value] | None = None
    if after is not None and last_id is not None:
        last = [sa.literal(after.value), *last_id]
    if sort.path == NAME:
        return [_Order([MASTERS.c.name, MASTERS.c.id], sort, embedded).behind(sa.true(), last)]
    time = MASTERS.c.captured_at
    untimed = by_id.behind(time.is_(None), last_id if after and after.value is None else None)
    if after is not None and after.value is None:
        return [untimed]
    by_time = _Order([time, MASTERS.c.id], sort, embedded)
    return [by_time.behind(time.is_not(None), last), untimed]


@dataclass(frozen=True)
class _Order:
    columns: Sequence[Value]
    sort: Sort
    embedded: bool

    def behind(self, condition: Condition, last: Sequence[Value] | None) -> Segment:
        if last is not None:
            condition = sa.and_(condition, self._is_behind(last))
        return Segment(condition, [_directed(each, self.sort) for each in self.columns])

    def _is_behind(self, last: Sequence[Value]) -> Condition:
        if self.embedded:  # SQLite seeks in an index by the whole tuple only in this form
            columns, values = sa.tuple_(*self.columns), sa.tuple_(*last)
            return columns < values if self.sort.descending else columns > values
        return _is_behind(self.columns, last, self.sort)


def _is_behind(columns: Sequence[Value], last: Sequence[Value], sort: Sort) -> Condition:
    """Compare tuples. MariaDB finds the range of an index in this form only."""
    column, value = columns[0], last[0]
    behind = column < value if sort.descending else column > value
    if len(columns) == 1:
        return behind
    return sa.or_(behind, sa.and_(column == value, _is_behind(columns[1:], last[1:], sort)))


def _directed(column: Value, sort: Sort) -> Value:
    return column.desc() if sort.descending else column.asc()


def select_by_path(
    sort: Sort, inside: Condition, after: Position | None, limit: int, offset: int
) -> sa.Select[Any]:
    """Return the statement for the masters of a list on MariaDB that is sorted by any path.

    It computes the value of every master. It is one statement, because a master that changes
    between two would move the position at the end of the page.
    """
    value = _json_value(sort.path).label("value")
    # With a limit, MariaDB extracts each value once instead of once for each use of it.
    values = SELECT_MASTERS.with_only_columns(MASTERS.c.id, value).where(inside).limit(_EVERY)
    found = values.subquery()
    no_rank = -1 if sort.descending else NO_RANK
    keys = [*_sort_keys(found.c.value, no_rank), found.c.id]
    ranked = sa.select(*(key.label(f"key_{number}") for number, key in enumerate(keys)))
    if after is not None:
        last: list[Value] = [*_last_keys(after, no_rank), sa.literal(after.id, UuidBytes)]
        ranked = ranked.where(_is_behind(keys, last, sort))
    ranked = ranked.order_by(*(_directed(key, sort) for key in keys)).limit(limit).offset(offset)
    page = ranked.subquery()
    masters = SELECT_MASTERS.join(page, page.c.key_3 == MASTERS.c.id)
    return masters.order_by(*(_directed(key, sort) for key in page.c))


def _json_value(path: Path) -> Value:
    """Return the value at a path of what filters see, as JSON; NULL if there is none."""
    functions, (key, *rest) = MySql(), path
    built_in: Value
    own = sa.func.json_extract(MASTERS.c.attributes, json_path(path))
    if key == CAPTURE:
        document = capture_document(MASTERS.c)
        built_in = sa.func.json_extract(document, json_path(tuple(rest)))
    elif key in BUILT_IN_FIELDS and not rest:
        column = MASTERS.c[key]
        is_number = isinstance(column.type, sa.Integer)
        built_in = sa.cast(column, sa.CHAR) if is_number else sa.func.json_quote(column)
    else:
        return own
    return sa.case((lacks_attribute(key, MASTERS.c, functions), built_in), else_=own)


def _sort_keys(value: Value, no_rank: int) -> list[Value]:
    """Return the rank, the number and the start of the text of a value, none of them NULL."""
    functions, whole = MySql(), json_path(())
    is_number, is_text, is_boolean = (
        functions.is_type(value, whole, type_) for type_ in ("number", "string", "boolean")
    )
    is_true = functions.booleans(value, whole, [True])
    start = functions.start(functions.text(value, whole), MAX_TEXT)
    return [
        sa.case((is_number, 0), (is_text, 1), (is_boolean, 2), else_=no_rank),
        sa.case(
            (is_number, functions.number(value, whole)),
            (is_true, sa.cast(1, sa.Double)),
            else_=sa.cast(0, sa.Double),
        ),
        sa.case((is_text, start), else_=functions.text_value("")),
    ]


def _last_keys(after: Position, no_rank: int) -> list[Value]:
    """Return the rank, the number and the text of a position."""
    value = after.value
    number = 0 if value is None or isinstance(value, str) else value
    text = value if isinstance(value, str) else ""
    return [
        sa.literal(no_rank if value is None else rank_of(value)),
        sa.cast(number, sa.Double),
        MySql().text_value(text),
    ]
