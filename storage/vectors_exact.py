"""The embedded vector store.

Rows are in the metadata database; an exact search runs over a matrix in memory.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any, cast
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storage.cores import available_cores
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.filters import Filter
from storage.records import Box4, VectorHit, VectorPart, VectorRecord, check_dimension
from storage.tables import VectorRow, table_of
from storage.vector_matrix import VectorMatrix

_vectors = table_of(VectorRow)
_BY_PART = (_vectors.c.master_id, _vectors.c.part)
_SELECT = sa.select(
    _vectors.c.master_id,
    _vectors.c.collection_id,
    _vectors.c.box,
    _vectors.c.vector,
    _vectors.c.attributes,
    _vectors.c.revision,
)
# Prepared once, because building a statement takes longer than running it.
_INSERT = _vectors.insert()
_SELECT_REVISIONS = sa.select(_vectors.c.master_id, _vectors.c.revision).where(
    _vectors.c.model_version == sa.bindparam("version"),
    _vectors.c.part == 0,
    _vectors.c.master_id.in_(sa.bindparam("ids", expanding=True)),
)
_BATCH = 4096  # rows read at once
_MOST_VARIABLES = 500  # ids in one statement
_FLOAT_BYTES = 4


class ExactVectorStore:
    """VectorStore in the metadata database, for one process.

    A write goes to the database first, then to memory. A new process reads the matrix back.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._matrices: dict[str, VectorMatrix] = {}
        self._dimensions: dict[str, int] = {}
        self._writing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        # BLAS threads of numpy would spin beside the inference threads: each call gets one, and
        # large searches are split over this pool instead.
        threadpool_limits(1, "blas")
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="exact-search")

    def load(self) -> None:
        """Read all vectors into memory, which takes about 2 kB per vector of 512 numbers."""
        for version in self.versions():
            self._matrix(version)

    def _matrix(self, version: str) -> VectorMatrix:
        """Return the matrix that searches read; the first call reads it from the database."""
        with self._lock:
            if version not in self._matrices:
                of_version = _vectors.c.model_version == version
                statement = _SELECT.where(of_version).order_by(*_BY_PART)
                with self._db.read() as connection:
                    matrix = VectorMatrix()
                    partitions = connection.execute(statement).partitions(_BATCH)
                    records = _records(chain.from_iterable(partitions))
                    while batch := list(islice(records, _BATCH)):
                        matrix.put_rows(batch)
                self._matrices[version] = matrix
            return self._matrices[version]

    def _loaded_matrix(self, version: str) -> VectorMatrix | None:
        """Return the matrix if it is loaded; wait if it is being loaded."""
        with self._lock:
            return self._matrices.get(version)

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        with self._in_order(version), self._db.write() as connection:
            dimension = check_dimension(records, self._find_dimension(version))
            newest = _find_newest(connection, version, records)
            records = [each for each in records if each.revision >= newest.get(each.master_id, -1)]
            if newest:  # there is something to replace
                replaced = _are(version, [record.master_id for record in records])
                connection.execute(_vectors.delete().where(replaced))
            if rows := [row for record in records for row in _rows(version, record)]:
                connection.execute(_INSERT, rows)
            self._db.after_commit(partial(self._put_rows, version, dimension, records))

    def _put_rows(
        self, version: str, dimension: int | None, records: Sequence[VectorRecord]
    ) -> None:
        if dimension is not None:
            self._dimensions[version] = dimension
        if (matrix := self._loaded_matrix(version)) is not None:
            matrix.put_rows(records)

    def _drop_rows(self, version: str, ids: Sequence[UUID]) -> None:
        if (matrix := self._loaded_matrix(version)) is not None:
            matrix.drop_rows(ids)

    def _in_order(self, version: str) -> AbstractContextManager[object]:
        """Keep the order of changes on disk and in memory the same.

        SQLite's callbacks do so by themselves.
        """
        return nullcontext() if self._db.embedded else self._writing[version]

    def _find_dimension(self, version: str) -> int | None:
        """Return the length of the version's vectors; None before the first one."""
        if version not in self._dimensions:
            size = sa.select(sa.func.length(_vectors.c.vector)).limit(1)
            with self._db.read() as connection:
                found = connection.scalar(size.where(_vectors.c.model_version == version))
            return None if found is None else found // _FLOAT_BYTES
        return self._dimensions[version]

    def delete(self, version: str, ids: Sequence[UUID]) -> None:
        with self._in_order(version), self._db.write() as connection:
            connection.execute(_vectors.delete().where(_are(version, ids)))
            self._db.after_commit(partial(self._drop_rows, version, ids))

    def versions(self) -> list[str]:
        version = _vectors.c.model_version
        with self._db.read() as connection:
            return list(connection.scalars(sa.select(version).distinct().order_by(version)))

    def drop_version(self, version: str) -> None:
        # In batches: one deletion of a million rows would block every other writer.
        for ids in self.iterate_ids(version):
            self.delete(version, ids)
        with self._lock:
            self._matrices.pop(version, None)
            self._dimensions.pop(version, None)

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        after = UUID(int=0)
        masters = sa.select(_vectors.c.master_id).where(_first_parts(version))
        statement = masters.order_by(_vectors.c.master_id).limit(_BATCH)
        while True:
            # One transaction per batch: a long one would hold back SQLite's checkpoints.
            with self._db.read() as connection:
                batch = statement.where(_vectors.c.master_id > after)
                ids = list(connection.scalars(batch))
            if not ids:
                return
            yield ids
            after = ids[-1]

    def fetch_vectors(self, version: str, ids: Sequence[UUID]) -> dict[UUID, VectorRecord]:
        found: dict[UUID, VectorRecord] = {}
        with self._db.read() as connection:
            for start in range(0, len(ids), _MOST_VARIABLES):
                some = _are(version, ids[start : start + _MOST_VARIABLES])
                statement = _SELECT.where(some).order_by(*_BY_PART)
                for record in _records(connection.execute(statement)):
                    found[record.master_id] = record
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
        number = sa.select(sa.func.count()).select_from(_vectors)
        with self._db.read() as connection:
            return connection.scalar(number.where(_first_parts(version))) or 0

    def ping(self) -> None:
        try:
            with self._db.read() as connection:
                connection.execute(sa.select(_vectors.c.revision).limit(1))
        except StoreUnavailable as error:
            raise StoreUnavailable("vector", str(error)) from error

    def close(self) -> None:
        self._pool.shutdown()


def _are(version: str, ids: Sequence[UUID]) -> sa.ColumnElement[bool]:
    """Return the condition that a row is a vector of that version and of one of these masters."""
    return sa.and_(_vectors.c.model_version == version, _vectors.c.master_id.in_(ids))


def _find_newest(
    connection: sa.Connection, version: str, records: Sequence[VectorRecord]
) -> dict[UUID, int]:
    """Return the revisions that are stored of these masters."""
    named = {"version": version, "ids": [record.master_id for record in records]}
    rows = connection.execute(_SELECT_REVISIONS, named).all()
    return {row.master_id: row.revision for row in rows}


def _first_parts(version: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row is part 0 of a master, which every master has."""
    return sa.and_(_vectors.c.model_version == version, _vectors.c.part == 0)


def _rows(version: str, record: VectorRecord) -> list[dict[str, Any]]:
    return [
        {
            "model_version": version,
            "master_id": record.master_id,
            "part": number,
            "collection_id": record.collection_id,
            "box": part.box,
            "vector": np.ascontiguousarray(part.vector, dtype="<f4").tobytes(),
            "attributes": record.attributes,
            "revision": record.revision,
        }
        for number, part in enumerate(record.parts)
    ]


def _records(rows: Iterable[Any]) -> Iterator[VectorRecord]:
    """Yield the records in rows that are ordered by master and part."""
    for master_id, group in groupby(rows, key=attrgetter("master_id")):
        first, *others = group
        parts = (_part(first), *map(_part, others))
        yield VectorRecord(master_id, first.collection_id, parts, first.attributes, first.revision)


def _part(row: Any) -> VectorPart:
    vector, box = np.frombuffer(row.vector, dtype="<f4"), row.box
    return VectorPart(vector, cast("Box4", tuple(box)) if box else None)
