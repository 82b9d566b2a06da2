"""Keeps the attributes of an embedded database's masters in memory, to select by many conditions.

SQLite parses the attributes of a row again for every condition. A built-in field is kept as well
once a filter has used it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set
from itertools import compress
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from cachetools import LRUCache
from numpy.typing import NDArray

from storage.attribute_columns import AttributeColumns
from storage.filters import Filter, Path, list_paths
from storage.list_records import Position
from storage.metadata.rows import COLLECTIONS, LIVE, MASTERS, RAW_ID
from storage.records import BUILT_IN_FIELDS, CAPTURE, MasterState
from storage.sorting import Sort

_MOST_COLLECTIONS = 4  # those used last
_FEW = 500  # masters that are read by their ids, below the limit of bound variables
_Key = tuple[bytes, int, int]  # the id of a master, its revision, and the time of its last change


class AttributeIndex:
    """The attributes of the collections that were used last. It may be used by many threads.

    Each use reads which masters are visible in its own transaction, and the attributes of those
    that it does not know. So an answer is as current as one of the database, whatever other
    threads and processes change.
    """

    def __init__(self) -> None:
        self._collections: LRUCache[UUID, _CollectionIndex] = LRUCache(_MOST_COLLECTIONS)
        self._lock = threading.Lock()

    def select(
        self, connection: sa.Connection, collection_id: UUID, filter: Filter | None
    ) -> list[bytes]:
        """Return the ids of the visible masters that match the filter, newest first."""
        return self._of(collection_id).select(connection, filter)

    def list_ids(
        self,
        connection: sa.Connection,
        collection_id: UUID,
        filter: Filter | None,
        after: Position | None,
        sort: Sort,
    ) -> tuple[list[bytes], int]:
        """Return the ids of the visible masters that match, and their number.

        The ids are those behind a position, in an order by ids or by a path.
        """
        index = self._of(collection_id)
        if sort.by_id:
            found = index.select(connection, filter)
            total, found = len(found), found if sort.descending else found[::-1]
            if after is not None:
                last = after.id.bytes
                found = [id_ for id_ in found if (id_ < last if sort.descending else id_ > last)]
            return found, total
        return index.sort(connection, filter, after, sort)

    def _of(self, collection_id: UUID) -> _CollectionIndex:
        with self._lock:
            index = self._collections.get(collection_id)
            if index is None:
                index = self._collections[collection_id] = _CollectionIndex(collection_id)
        return index


class _CollectionIndex:
    def __init__(self, collection_id: UUID) -> None:
        live = sa.exists().where(COLLECTIONS.c.id == collection_id, COLLECTIONS.c.state == LIVE)
        inside = sa.and_(
            MASTERS.c.collection_id == collection_id, MASTERS.c.state == MasterState.STORED, live
        )
        self._inside = inside
        self._visible = sa.select(RAW_ID, MASTERS.c.revision, MASTERS.c.updated_at).where(inside)
        self._visible = self._visible.order_by(MASTERS.c.id.desc())
        self._fields: set[str] = set()  # built-in ones that are kept
        self._forget_all()
        self._lock = threading.Lock()

    def _forget_all(self) -> None:
        self._rows: dict[_Key, int] = {}
        self._columns = AttributeColumns()

    def select(self, connection: sa.Connection, filter: Filter | None) -> list[bytes]:
        keys = self._list_visible(connection)
        if filter is None:
            return [key[0] for key in keys]
        with self._lock:
            rows = self._find_rows(connection, keys, list_paths(filter))
            matching = self._columns.select(filter, len(self._rows))[rows]
        return [key[0] for key in compress(keys, matching.tolist())]

    def sort(
        self, connection: sa.Connection, filter: Filter | None, after: Position | None, sort: Sort
    ) -> tuple[list[bytes], int]:
        """Return the ids behind a position in an order by a path, and the number of all."""
        keys = self._list_visible(connection)
        with self._lock:
            paths = {sort.path} if filter is None else {sort.path, *list_paths(filter)}
            rows = self._find_rows(connection, keys, paths)
            size = len(self._rows)
            values = self._columns.sort_values(sort.path, size)
            places = np.arange(len(keys))
            if filter is not None:
                places = places[self._columns.select(filter, size)[rows]]
        ids = [keys[place][0] for place in places.tolist()]
        last = None if after is None else (after.value, after.id.bytes)
        order = values.sort(rows[places], ids, last, descending=sort.descending)
        return [ids[place] for place in order], len(ids)

    def _list_visible(self, connection: sa.Connection) -> list[_Key]:
        # The driver's own tuples: rows of SQLAlchemy are slower to make and to look up.
        return list(connection.execute(self._visible).cursor.fetchall())

    def _find_rows(
        self, connection: sa.Connection, keys: Sequence[_Key], paths: Set[Path]
    ) -> NDArray[np.int64]:
        """Return the row of each master, with columns for these paths."""
        self._keep_fields({path[0] for path in paths})
        self._read_new(connection, keys)
        return np.fromiter(map(self._rows.__getitem__, keys), np.int64, len(keys))

    def _keep_fields(self, keys: Set[str]) -> None:
        fields = keys & {*BUILT_IN_FIELDS, CAPTURE}
        if not fields <= self._fields:
            self._fields |= fields
            self._forget_all()

    def _read_new(self, connection: sa.Connection, keys: Sequence[_Key]) -> None:
        """Read the attributes and fields of the masters that are new or changed."""
        if len(self._rows) > 2 * len(keys) + _FEW:  # most rows are of an earlier revision
            self._forget_all()
        new = {key[0]: key for key in keys if key not in self._rows}
        if not new:
            return
        fields = sorted(self._fields)
        columns = [MASTERS.c[field] for field in fields]
        statement = sa.select(RAW_ID, MASTERS.c.attributes, *columns).where(self._inside)
        if len(new) <= _FEW:
            statement = statement.where(RAW_ID.in_(list(new)))
        for id_, attributes, *values in connection.execute(statement):
            if id_ in new:
                row = self._rows[new[id_]] = len(self._rows)
                built_in = {
                    field: {} if value is None else value  # only `capture` may be NULL
                    for field, value in zip(fields, values, strict=True)
                }
                self._columns.add(row, built_in | attributes)
