"""The embedded vector store.

Rows are in the metadata database; an exact search runs over a matrix in memory.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storage.block_files import SnapshotDamaged
from storage.cores import available_cores
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.filters import Filter
from storage.loaded_vectors import LoadedVectors
from storage.records import Box4, LoadProgress, VectorHit, VectorPart, VectorRecord, check_dimension
from storage.tables import VectorRow, table_of
from storage.vector_matrix import VectorMatrix
from storage.vector_snapshots import VectorSnapshots

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
_LEAST_SAVED = 4096  # rows; fewer are read from the database in a moment
_SAVE_AFTER = 16_384  # changes, which a start after a kill reads from the database
_RETRY = 1.0  # seconds until a database that failed is tried again
_log = logging.getLogger("lookalike.vectors")


class ExactVectorStore:
    """VectorStore in the metadata database, for one process.

    A write goes to the database first, then to memory. A new process reads the matrix back, from
    a snapshot if there is one.
    """

    def __init__(
        self,
        database: Database,
        snapshots: Path | None = None,
        *,
        least: int = _LEAST_SAVED,
        save_after: int = _SAVE_AFTER,
    ) -> None:
        """``snapshots`` is the directory of a process that serves an embedded database.

        Versions of fewer than ``least`` rows have no snapshot. One is written after ``save_after``
        changes, and when the store is closed.
        """
        self._db = database
        self._snapshots = VectorSnapshots(database, snapshots) if snapshots else None
        self._least, self._save_after = least, save_after
        self._loaded: dict[str, LoadedVectors] = {}
        self._damaged: set[str] = set()  # versions whose snapshot cannot be used
        self._dimensions: dict[str, int] = {}
        self._writing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()
        self._queue: list[str] = []  # versions to be loaded in the background
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="vectors", daemon=True)
        # BLAS threads of numpy would spin beside the inference threads: each call gets one, and
        # large searches are split over this pool instead.
        threadpool_limits(1, "blas")
        self._pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="exact-search")

    def load(self, first: Sequence[str] = ()) -> None:
        """Begin to read all vectors into memory in the background, the versions ``first`` first.

        A vector of 512 numbers takes about 0.6 kB if it is in a snapshot, otherwise 2.6 kB.
        """
        versions = self.versions()
        self._queue = [*(each for each in first if each in versions), *versions]
        self._queue = list(dict.fromkeys(self._queue))
        self._keeper.start()

    def loading(self) -> dict[str, LoadProgress]:
        """Return the versions that are not loaded yet, and how many of their rows are."""
        with self._lock:
            waiting = dict.fromkeys(self._queue, LoadProgress(0, 0))
            return waiting | {
                version: LoadProgress(each.loaded, each.total)
                for version, each in self._loaded.items()
                if each.matrix is None
            }

    def _keep(self) -> None:
        """Load what is queued, and write snapshots, until the store is closed."""
        while not self._stopping.is_set():
            try:
                self._load_queued()
                for version, loaded in list(self._loaded.items()):
                    if loaded.changes >= loaded.save_at:
                        self._save(version, loaded, self._stopping)
            except StoreUnavailable as error:
                if not self._stopping.wait(_RETRY):
                    _log.warning("vectors are not loaded: %s", error)
                continue
            except Exception:  # the thread must survive every error
                _log.exception("vectors are not loaded or saved")
                self._stopping.wait(_RETRY)
                continue
            self._wake.wait()
            self._wake.clear()

    def _load_queued(self) -> None:
        while self._queue and not self._stopping.is_set():
            self._matrix(self._queue[0])
            with self._lock:
                self._queue.pop(0)

    def _matrix(self, version: str) -> VectorMatrix:
        """Return the matrix that searches read; the first call loads it, and others wait."""
        with self._lock:
            loaded = self._loaded.get(version)
            if is_first := loaded is None:
                loaded = self._loaded[version] = LoadedVectors(self._stopping, self._save_after)
        if not is_first:
            return loaded.wait()
        try:
            loaded.load(partial(self._read, version, loaded))
        except BaseException:
            self._discard(version, loaded)
            raise
        self._wake.set()
        return loaded.wait()

    def _discard(self, version: str, loaded: LoadedVectors) -> None:
        with self._lock:
            if self._loaded.get(version) is loaded:
                del self._loaded[version]

    def _read(self, version: str, loaded: LoadedVectors) -> VectorMatrix:
        """Read the vectors of a version from its snapshot, or all of them from the database."""
        if self._snapshots is not None:
            if version in self._damaged:
                self._snapshots.forget(version)
                self._damaged.discard(version)
            restored = self._snapshots.restore(version, loaded.report)
            if restored is not None:
                return self._read_changed(version, loaded, *restored)
        matrix, total = VectorMatrix(), self.count(version)
        loaded.report(0, total)
        # In batches: a long transaction would hold back SQLite's checkpoints.
        for ids in self.iterate_ids(version):
            some = _vectors.c.master_id.between(ids[0], ids[-1])
            of_version = _SELECT.where(_vectors.c.model_version == version, some)
            with self._db.read() as connection:
                rows = connection.execute(of_version.order_by(*_BY_PART)).all()
            matrix.put_rows(list(_records(rows)))
            loaded.report(loaded.loaded + len(ids), total)
        loaded.changes += loaded.loaded
        return matrix

    def _read_changed(
        self, version: str, loaded: LoadedVectors, matrix: VectorMatrix, ids: list[UUID]
    ) -> VectorMatrix:
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            matrix.drop_rows(some)
            matrix.put_rows(list(self.fetch_vectors(version, some).values()))
            loaded.report(loaded.loaded, loaded.total)
        loaded.changes += len(ids)
        return matrix

    def _save(self, version: str, loaded: LoadedVectors, stopping: threading.Event) -> None:
        """Write a snapshot if it is worth it. A failure is only logged."""
        matrix, changes = loaded.matrix, loaded.changes
        if self._snapshots is None or matrix is None:
            return
        loaded.save_at = changes + self._save_after  # also if this fails, on a full disk
        if matrix.capacity < self._least:
            return
        try:
            is_saved = self._snapshots.save(
                version, matrix, lambda: self._loaded.get(version) is loaded, stopping
            )
        except (OSError, StoreUnavailable, SnapshotDamaged) as error:
            _log.warning("no snapshot of the vectors was written: %s", error)
            return
        if is_saved:
            loaded.changes -= changes
            loaded.save_at = self._save_after

    def upsert(self, version: str, records: Sequence[VectorRecord]) -> None:
        with self._in_order(version), self._db.write() as connection:
            known = self._find_dimension(version)
            dimension = check_dimension(records, known)
            newest = _find_newest(connection, version, records)
            records = [each for each in records if each.revision >= newest.get(each.master_id, -1)]
            if newest:  # there is something to replace
                replaced = _are(version, [record.master_id for record in records])
                connection.execute(_vectors.delete().where(replaced))
            if rows := [row for record in records for row in _rows(version, record)]:
                connection.execute(_INSERT, rows)
            self._db.after_commit(
                partial(self._put_rows, version, dimension, records, is_new=known is None)
            )

    def _put_rows(
        self,
        version: str,
        dimension: int | None,
        records: Sequence[VectorRecord],
        *,
        is_new: bool,
    ) -> None:
        if dimension is not None:
            self._dimensions[version] = dimension
        if is_new:
            self._begin_empty(version)
        self._apply(version, lambda matrix: matrix.put_rows(records), len(records))

    def _drop_rows(self, version: str, ids: Sequence[UUID]) -> None:
        self._apply(version, lambda matrix: matrix.drop_rows(ids), len(ids))

    def _begin_empty(self, version: str) -> None:
        """Begin the matrix of a version that had no vectors, in a process that searches."""
        with self._lock:
            if version not in self._loaded and self._keeper.is_alive():
                loaded = LoadedVectors(self._stopping, self._save_after)
                loaded.load(VectorMatrix)
                self._loaded[version] = loaded

    def _apply(self, version: str, change: Callable[[VectorMatrix], None], masters: int) -> None:
        """Apply a change that is committed to the matrix, if there is one."""
        with self._lock:
            loaded = self._loaded.get(version)
            if loaded is None and self._keeper.is_alive() and version not in self._queue:
                self._queue.append(version)  # the first search should not have to load it
        if loaded is not None:
            try:
                loaded.apply(change, masters)
            except Exception as error:
                # A commit must not wait for another one: the next search reads everything again.
                if isinstance(error, SnapshotDamaged):
                    self._damaged.add(version)
                else:
                    _log.exception("a change of the vectors in memory has failed")
                self._discard(version, loaded)
        if loaded is None or loaded.changes >= loaded.save_at:
            self._wake.set()

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
        # One step in the index for each version; DISTINCT would read all of it.
        version, found = _vectors.c.model_version, [""]
        next_one = sa.select(sa.func.min(version))
        with self._db.read() as connection:
            while after := connection.scalar(next_one.where(version > found[-1])):
                found.append(after)
        return found[1:]

    def drop_version(self, version: str) -> None:
        if self._snapshots is not None:
            self._snapshots.forget(version)
        # In batches: one deletion of a million rows would block every other writer.
        for ids in self.iterate_ids(version):
            self.delete(version, ids)
        with self._lock:
            self._loaded.pop(version, None)
            self._dimensions.pop(version, None)
        if self._snapshots is not None:
            self._snapshots.forget(version)
            self._snapshots.remove_unknown_files()

    def iterate_ids(self, version: str) -> Iterator[list[UUID]]:
        after: UUID | None = None
        masters = sa.select(_vectors.c.master_id).where(_first_parts(version))
        statement = batch = masters.order_by(_vectors.c.master_id).limit(_BATCH)
        while True:
            # One transaction per batch: a long one would hold back SQLite's checkpoints.
            with self._db.read() as connection:
                if after is not None:
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
        def search() -> list[VectorHit]:
            return self._matrix(version).search(
                self._pool, collection_id, vector, limit, filter, max_distance
            )

        loaded = self._loaded.get(version)
        try:
            return search()
        except SnapshotDamaged as error:
            _log.warning("the vectors are read from the database again: %s", error)
            self._damaged.add(version)
            if loaded is not None:
                self._discard(version, loaded)
            return search()

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
        self._stopping.set()
        self._wake.set()
        if self._keeper.ident is not None:
            self._keeper.join()
            for version, loaded in self._loaded.items():
                if 0 < loaded.changes <= self._save_after:  # it takes a moment
                    self._save(version, loaded, threading.Event())
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
