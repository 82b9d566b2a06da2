"""The embedded vector store: rows in the metadata database, exact search over a matrix in memory."""

from __future__ import annotations

import functools
import operator
import os
import threading
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storage.database import Database
from storage.errors import StoreUnavailable
from storage.filters import (
    And,
    Contains,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Path,
    Range,
    Scalar,
    in_order,
    type_name,
)
from storage.records import VectorHit, VectorRecord
from storage.tables import VectorRow, table_of

DIMENSION = 512
_vectors = table_of(VectorRow)
_Mask = NDArray[np.bool_]
_ELEMENTS = ("",)  # behind a list's path: the column of its elements (no attribute key is empty)
_FLOAT32_ERROR = 1e-4  # more than a product of two unit vectors of 512 float32 can be off
_LOAD_BATCH = 4096
_LEAST_CAPACITY = 1024  # rows


class ExactVectorStore:
    """Every write goes to the database first, then to memory; a start reads the matrix back."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._matrices: dict[str, _Matrix] = {}
        self._writing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        # numpy's own threads spin beside the inference threads; one BLAS thread a call, and slices on a pool of ours
        threadpool_limits(1, "blas")
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="exact-search")

    def load(self) -> None:
        """Read all vectors into memory (about 2 kB a master)."""
        for version in self.versions():
            self._matrix(version)

    def _matrix(self, version: str) -> _Matrix:
        with self._lock:
            if version not in self._matrices:
                matrix = _Matrix(capacity=self.count(version) * 5 // 4)
                statement = (
                    sa.select(_vectors)
                    .where(_vectors.c.model_version == version)
                    .order_by(_vectors.c.master_id)
                )
                with self._db.read() as connection:
                    for rows in connection.execute(statement).partitions(_LOAD_BATCH):
                        matrix.put([_record(row) for row in rows])
                self._matrices[version] = matrix
            return self._matrices[version]

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        rows = [
            {
                "model_version": version,
                "master_id": record.master_id,
                "collection_id": record.collection_id,
                "vector": np.ascontiguousarray(record.vector, dtype="<f4").tobytes(),
                "attributes": record.attributes,
                "revision": record.revision,
            }
            for record in records
        ]
        with self._writing[version]:  # the same order on disk and in memory
            with self._db.write() as connection:
                connection.execute(
                    _vectors.delete().where(
                        *_rows(version, [record.master_id for record in records])
                    )
                )
                if rows:
                    connection.execute(_vectors.insert(), rows)
            if (matrix := self._loaded(version)) is not None:
                matrix.put(records)

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        with self._writing[version]:
            with self._db.write() as connection:
                connection.execute(_vectors.delete().where(*_rows(version, ids)))
            if (matrix := self._loaded(version)) is not None:
                matrix.drop(ids)

    def _loaded(self, version: str) -> _Matrix | None:
        """What searches look at, if there has been one; while it is being loaded, this waits."""
        with self._lock:
            return self._matrices.get(version)

    def versions(self) -> list[str]:
        with self._db.read() as connection:
            return list(
                connection.scalars(
                    sa.select(_vectors.c.model_version)
                    .distinct()
                    .order_by(_vectors.c.model_version)
                )
            )

    def drop_version(self, version: str) -> None:
        for ids in self.iterate_ids(
            version
        ):  # by and by: one deletion of a million rows would hold up every writer
            self.delete(version, ids)
        with self._lock:
            self._matrices.pop(version, None)

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        after = UUID(int=0)
        statement = (
            sa.select(_vectors.c.master_id)
            .where(_vectors.c.model_version == version)
            .order_by(_vectors.c.master_id)
        )
        while True:
            with (
                self._db.read() as connection
            ):  # one each batch: a reader would hold back SQLite's checkpoints
                ids = list(
                    connection.scalars(
                        statement.where(_vectors.c.master_id > after).limit(_LOAD_BATCH)
                    )
                )
            if not ids:
                return
            yield ids
            after = ids[-1]

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        found: dict[UUID, VectorRecord] = {}
        with self._db.read() as connection:
            for start in range(0, len(ids), 500):
                for row in connection.execute(
                    sa.select(_vectors).where(*_rows(version, ids[start : start + 500]))
                ):
                    found[row.master_id] = _record(row)
        return found

    def search(
        self,
        version: str,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None = None,
        max_distance: float | None = None,
    ) -> list[VectorHit]:
        return self._matrix(version).search(
            self._pool, collection_id, vector, limit, filter, max_distance
        )

    def count(self, version: str) -> int:
        with self._db.read() as connection:
            statement = (
                sa.select(sa.func.count())
                .select_from(_vectors)
                .where(_vectors.c.model_version == version)
            )
            return connection.scalar(statement) or 0

    def ping(self) -> None:
        try:
            with self._db.read() as connection:
                connection.execute(sa.select(_vectors.c.revision).limit(1))
        except StoreUnavailable as error:
            raise StoreUnavailable("vector", str(error)) from error

    def close(self) -> None:
        self._pool.shutdown()


def _rows(version: str, ids: Sequence[UUID]) -> tuple[sa.ColumnElement[bool], ...]:
    return _vectors.c.model_version == version, _vectors.c.master_id.in_(ids)


def _record(row: Any) -> VectorRecord:
    vector = np.frombuffer(row.vector, dtype="<f4")
    return VectorRecord(row.master_id, row.collection_id, vector, row.attributes, row.revision)


class _Matrix:
    """One model version's vectors. Rows are only ever appended or marked dead, so a search may go on beside a write."""

    def __init__(self, capacity: int = 0) -> None:
        capacity = max(_LEAST_CAPACITY, capacity)
        self._lock = threading.Lock()
        self._size = 0
        self._vectors = np.empty((capacity, DIMENSION), dtype=np.float32)
        self._ids = np.empty((capacity, 2), dtype=np.uint64)  # a UUID's high and low half
        self._collections = np.empty(capacity, dtype=np.int32)
        self._alive = np.zeros(capacity, dtype=np.bool_)
        self._row_of: dict[UUID, int] = {}
        self._columns: dict[Path, _Column] = {}
        self._collection_codes: dict[UUID, int] = {}

    def put(self, records: Sequence[VectorRecord]) -> None:
        with self._lock:
            self._make_room(len(records))
            for record in records:
                old = self._row_of.get(record.master_id)
                if old is not None:
                    self._alive[old] = False
                row = self._size
                self._vectors[row] = record.vector
                self._ids[row] = divmod(record.master_id.int, 1 << 64)
                self._collections[row] = self._collection_codes.setdefault(
                    record.collection_id, len(self._collection_codes)
                )
                self._add_attributes(row, (), record.attributes)
                self._row_of[record.master_id] = row
                self._alive[row] = True
                self._size += 1

    def drop(self, ids: Sequence[UUID]) -> None:
        with self._lock:
            for master_id in ids:
                row = self._row_of.pop(master_id, None)
                if row is not None:
                    self._alive[row] = False

    def _add_attributes(self, row: int, path: Path, value: object) -> None:
        if path:
            self._column(path).add(row, value)
        if isinstance(value, dict):
            for key, item in value.items():
                self._add_attributes(row, (*path, key), item)
        elif isinstance(value, list):
            for item in value:
                self._column(path + _ELEMENTS).add(row, item)

    def _column(self, path: Path) -> _Column:
        column = self._columns.get(path)
        if column is None:
            column = self._columns[path] = _Column()
        return column

    def _make_room(self, more: int) -> None:
        """Grow by half, leaving dead rows behind; the old arrays stay as they are for searches under way."""
        if self._size + more <= len(self._vectors):
            return
        keep = np.flatnonzero(self._alive[: self._size])
        capacity = max(_LEAST_CAPACITY, (len(keep) + more) * 3 // 2)
        renumbered = np.full(self._size, -1, dtype=np.int64)
        renumbered[keep] = np.arange(len(keep))
        for name in ("_vectors", "_ids", "_collections", "_alive"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), dtype=old.dtype)
            np.take(old, keep, axis=0, out=new[: len(keep)])
            setattr(self, name, new)
        for path, column in list(self._columns.items()):
            column.renumber(renumbered)
            if not column.rows:
                del self._columns[path]
        self._row_of = {master_id: int(renumbered[row]) for master_id, row in self._row_of.items()}
        self._size = len(keep)

    def search(
        self,
        pool: ThreadPoolExecutor,
        collection_id: UUID,
        vector: NDArray[np.float32],
        limit: int,
        filter: Filter | None,
        max_distance: float | None,
    ) -> list[VectorHit]:
        with self._lock:
            code = self._collection_codes.get(collection_id)
            if code is None:
                return []
            chosen = self._alive[: self._size] & (self._collections[: self._size] == code)
            if filter is not None:
                chosen &= self._mask(filter)
            vectors, ids = self._vectors[: self._size], self._ids[: self._size]
        rows = np.flatnonzero(chosen)
        near = 1.0 - _product(pool, vectors, rows, vector)
        if max_distance is not None:
            rows, near = _where(near <= max_distance + _FLOAT32_ERROR, rows, near)
        if len(rows) > limit:
            farthest = np.partition(near, limit - 1)[limit - 1]
            rows, near = _where(near <= farthest + 2 * _FLOAT32_ERROR, rows, near)
        # those few once more in float64, row by row, so that equal vectors tie wherever they stand
        products = (vectors[rows].astype(np.float64) * vector).sum(axis=1)
        distances = np.clip(np.round(1.0 - products, 6), 0.0, 2.0)
        if max_distance is not None:
            rows, distances = _where(distances <= max_distance, rows, distances)
        order = np.lexsort((ids[rows, 1], ids[rows, 0], distances))[:limit]
        return [
            VectorHit(UUID(int=int(high) << 64 | int(low)), float(distance))
            for (high, low), distance in zip(ids[rows[order]], distances[order], strict=True)
        ]

    def _mask(self, filter: Filter) -> _Mask:
        match filter:
            case And(parts):
                return functools.reduce(operator.and_, (self._mask(part) for part in parts))
            case Or(parts):
                return functools.reduce(operator.or_, (self._mask(part) for part in parts))
            case Not(part):
                return ~self._mask(part)
            case Contains(path, value):
                return self._lookup(path + _ELEMENTS, Equals(path, value))
            case Equals() | In() | Range() | Exists():
                return self._lookup(filter.path, filter)

    def _lookup(self, path: Path, condition: Equals | In | Range | Exists) -> _Mask:
        mask: _Mask = np.zeros(self._size, dtype=np.bool_)
        column = self._columns.get(path)
        if column is not None:
            mask[column.rows_where(condition)] = True
        return mask


def _where(chosen: _Mask, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return tuple(array[chosen] for array in arrays)


def _product(
    pool: ThreadPoolExecutor,
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    vector: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Dot products of the chosen rows, in slices over the cores (the bound is memory bandwidth: 2 kB a row)."""
    total, chosen = len(vectors), len(rows)
    slices = os.cpu_count() or 1
    if chosen * 3 < total:  # few rows: gathering them moves less memory than reading all

        def part(index: int) -> NDArray[np.float32]:
            return vectors[rows[chosen * index // slices : chosen * (index + 1) // slices]] @ vector

        results = map(part, range(slices)) if chosen < 2000 else pool.map(part, range(slices))
        return np.concatenate(list(results))

    def whole(index: int) -> NDArray[np.float32]:
        return vectors[total * index // slices : total * (index + 1) // slices] @ vector

    results = map(whole, range(slices)) if total < 2000 else pool.map(whole, range(slices))
    return np.concatenate(list(results))[rows]


_Key = tuple[str, Scalar]


class _Column:
    """One attribute path: which rows have which value, the values numbered. Lists and objects count as present only."""

    def __init__(self) -> None:
        self.rows = array("i")
        self._codes = array("i")
        self._values: list[object] = []
        self._numbers = array("d")  # each value as a number, NaN for what is none
        self._code_of: dict[_Key, int] = {}

    def add(self, row: int, value: object) -> None:
        kind = type_name(value)
        key: _Key = (kind, value if isinstance(value, str | bool | int | float) else "")
        code = self._code_of.get(key)
        if code is None:
            code = self._code_of[key] = len(self._values)
            self._values.append(value if kind not in ("list", "object") else None)
            self._numbers.append(
                float(value)
                if kind == "number" and isinstance(value, int | float)
                else float("nan")
            )
        self.rows.append(row)
        self._codes.append(code)

    def renumber(self, renumbered: NDArray[np.int64]) -> None:
        """Move to new row numbers; entries of dead rows (-1), and values that only they had, are dropped."""
        moved = renumbered[np.frombuffer(self.rows, dtype=np.int32)]
        kept = moved >= 0
        used, codes = np.unique(
            np.frombuffer(self._codes, dtype=np.int32)[kept], return_inverse=True
        )
        keys = list(self._code_of)
        self._values = [self._values[code] for code in used]
        self._numbers = array("d", np.frombuffer(self._numbers)[used].tobytes())
        self._code_of = {keys[code]: new for new, code in enumerate(used)}
        self.rows = array("i", moved[kept].astype(np.int32).tobytes())
        self._codes = array("i", codes.astype(np.int32).tobytes())

    def rows_where(self, condition: Equals | In | Range | Exists) -> NDArray[np.int32]:
        rows = np.array(self.rows, dtype=np.int32)
        if isinstance(condition, Exists):
            return rows
        codes = np.frombuffer(self._codes, dtype=np.int32)
        match condition:
            case Equals(_, value):
                wanted = self._code(value)
                return rows[codes == wanted] if wanted is not None else rows[:0]
            case In(_, values):
                among = [code for value in values if (code := self._code(value)) is not None]
                return rows[self._flags(among)[codes]]
            case Range(_, order, bound):
                return rows[self._in_range(order, bound)[codes]]

    def _code(self, value: Scalar) -> int | None:
        return self._code_of.get((type_name(value), value))

    def _flags(self, codes: list[int]) -> _Mask:
        flags = np.zeros(len(self._values), dtype=np.bool_)
        flags[codes] = True
        return flags

    def _in_range(self, order: str, bound: str | int | float) -> _Mask:
        if isinstance(bound, str):
            return self._flags(
                [code for code, value in enumerate(self._values) if in_order(value, order, bound)]
            )
        numbers = np.array(self._numbers)
        match order:
            case "gt":
                return numbers > bound
            case "gte":
                return numbers >= bound
            case "lt":
                return numbers < bound
            case _:
                return numbers <= bound
