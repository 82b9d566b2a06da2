"""Lists of masters in memory: pages in any order, fields, and numbers by month."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from storage.filters import Filter, matches
from storage.list_records import MasterFields, Months, Page, Position, count_by_month
from storage.records import Master, MasterState
from storage.sorting import NEWEST_FIRST, Sort, position_of, rank_of
from tests.support.memory_stores.tables import MasterRow, OnTables, hold_the_lock

_DAY = 86_400_000  # milliseconds


@hold_the_lock
class MemoryLists(OnTables):
    """Implements ListStore in memory."""

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: Position | None,
        offset: int = 0,
        sort: Sort = NEWEST_FIRST,
    ) -> Page:
        selected = [row.read() for row in self._select(collection_id, filter)]
        behind = [
            master
            for master in _in_order(selected, sort)
            if after is None or _is_behind(position_of(master, sort), after, sort)
        ][offset:]
        page = behind[:limit]
        more = len(behind) > limit
        return Page(page, position_of(page[-1], sort) if more else None, len(selected))

    def count_masters(self, collection_id: UUID) -> int:
        return len(self._select(collection_id, None))

    def count_months(self, collection_id: UUID, filter: Filter | None) -> Months:
        captures = [row.master.capture for row in self._select(collection_id, filter)]
        read = [capture for capture in captures if capture is not None]
        days = [(capture["time"] // _DAY, 1) for capture in read if "time" in capture]
        return Months(count_by_month(days), len(read) - len(days), len(captures) - len(read))

    def list_fields(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[MasterFields]:
        stored = [
            row.read()
            for row in self._tables.masters.values()
            if row.master.collection_id == collection_id and row.master.state is MasterState.STORED
        ]
        later = [master for master in stored if after is None or master.id < after]
        return [
            MasterFields(master.id, master.attributes, master.built_in_fields)
            for master in _in_order(later, NEWEST_FIRST)[:limit]
        ]

    def _select(self, collection_id: UUID, filter: Filter | None) -> list[MasterRow]:
        """Return the rows of the visible masters of a collection that the filter selects."""
        return [
            row
            for row in self._tables.masters.values()
            if row.master.collection_id == collection_id
            and self._tables.is_visible(row)
            and (filter is None or matches(filter, row.master.filterable))
        ]


def _in_order(masters: list[Master], sort: Sort) -> list[Master]:
    placed = [(position_of(master, sort), master) for master in masters]
    with_value = [each for each in placed if each[0].value is not None]
    without = [each for each in placed if each[0].value is None]
    for part in (with_value, without):
        part.sort(key=lambda each: _key(each[0]), reverse=sort.descending)
    return [master for _, master in with_value + without]


def _key(position: Position) -> tuple[int, Any, UUID]:
    return rank_of(position.value), 0 if position.value is None else position.value, position.id


def _is_behind(position: Position, after: Position, sort: Sort) -> bool:
    if (position.value is None) != (after.value is None):
        return position.value is None
    return _key(position) < _key(after) if sort.descending else _key(position) > _key(after)
