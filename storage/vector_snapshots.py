"""Snapshots of the embedded vectors, so that a start need not read all of them from SQLite.

The database says which files a snapshot has and which rows of them are up to date, and triggers
record every change of a vector since. So whatever state of the database is served, be it restored
from a dump, the files that it names and the changes that it records belong together. A file has a
random name, which is also in it, and is never changed. If one is missing or damaged, the vectors
are read from the database instead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from storage.block_files import SnapshotDamaged, open_vectors, read_block, write_block
from storage.cores import available_cores
from storage.database import Database
from storage.tables import VectorChangeRow, VectorFileRow, table_of
from storage.vector_blocks import VectorBlock
from storage.vector_matrix import BlockView, VectorMatrix

_log = logging.getLogger("lookalike.vectors")
_files = table_of(VectorFileRow)
_changes = table_of(VectorChangeRow)
_RECORDING = ""  # the name in the row that makes triggers record changes


class VectorSnapshots:
    """The snapshots of all versions, in a directory that only this process uses."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._db = database
        self._directory = directory
        self._saving = threading.RLock()

    def restore(
        self, version: str, progress: Callable[[int, int], None]
    ) -> tuple[VectorMatrix, list[UUID]] | None:
        """Return the matrix of the snapshot, and the masters that changed since.

        ``progress`` is called with the number of rows read, and that of all rows. Returns None if
        there is no snapshot, or if it cannot be used. Raises StoreUnavailable.
        """
        of_version = _files.c.model_version == version
        with self._db.read() as connection:
            rows = connection.execute(
                sa.select(_files).where(of_version, _files.c.file != _RECORDING)
            ).all()
            changed = sa.select(_changes.c.master_id).distinct()
            ids = list(connection.scalars(changed.where(_changes.c.model_version == version)))
        if not rows:
            return None
        total, matrix = sum(row.rows for row in rows), VectorMatrix()
        blocks = []
        try:
            with ThreadPoolExecutor(available_cores()) as pool:
                for block in pool.map(self._read, rows):
                    blocks.append(block)
                    progress(sum(each.size for each, _ in blocks), total)
        except SnapshotDamaged as error:
            _log.warning("the vectors are read from the database: %s", error)
            self.forget(version)
            return None
        matrix.restore(blocks)
        return matrix, ids

    def _read(self, row: sa.Row) -> tuple[VectorBlock, list[UUID]]:  # type: ignore[type-arg]
        alive = np.unpackbits(np.frombuffer(row.alive, dtype=np.uint8), count=row.rows)
        return read_block(self._directory / row.file, alive.astype(np.bool_))

    def save(
        self,
        version: str,
        matrix: VectorMatrix,
        is_current: Callable[[], bool],
        stopping: threading.Event,
    ) -> bool:
        """Write what the matrix has and the snapshot lacks, and make it the snapshot.

        ``is_current`` says whether all changes have been made to this matrix until now.

        Writers and searches go on meanwhile. Afterwards, the vectors of blocks that are full are
        read from the files. Returns whether that was done: not once ``stopping`` is set, or if the
        version was dropped. Raises OSError, StoreUnavailable.
        """
        with self._saving:
            last = self._begin(version)
            if not is_current():
                return False
            # The matrix has every change up to that one: callbacks run in the order of commits.
            views, collections = matrix.list_blocks()
            names = []
            for view in views:
                if stopping.is_set():
                    return False
                names.append(self._write(view, collections))
            is_published = self._publish(version, last, views, names)
            if is_published:
                self._move_vectors(matrix, views)
            self.remove_unknown_files()
            return is_published

    def _begin(self, version: str) -> int:
        """Record changes from now on, and return the number of the last one so far."""
        marker = {"model_version": version, "file": _RECORDING, "rows": 0, "alive": b""}
        with self._db.write() as connection:
            connection.execute(_files.insert().prefix_with("OR IGNORE"), marker)
            return connection.scalar(sa.select(sa.func.max(_changes.c.number))) or 0

    def _write(self, view: BlockView, collections: list[UUID]) -> str:
        """Return the name of the file with the rows of a block; write it if there is none."""
        block = view.block
        is_kept = block.file and (self._directory / block.file).exists()
        if not (is_kept and block.file_rows == view.size):
            name = f"{uuid4().hex}.block"
            write_block(self._directory / name, block, view.size, collections)
            block.file, block.file_rows = name, view.size
        return block.file

    def _publish(self, version: str, last: int, views: list[BlockView], names: list[str]) -> bool:
        """Make the files the snapshot. Returns whether the version has not been dropped."""
        of_version = _files.c.model_version == version
        rows = [
            {
                "model_version": version,
                "file": name,
                "rows": view.size,
                "alive": np.packbits(view.alive).tobytes(),
            }
            for view, name in zip(views, names, strict=True)
        ]
        with self._db.write() as connection:
            recording = sa.select(_files.c.rows).where(of_version, _files.c.file == _RECORDING)
            if connection.scalar(recording) is None:
                return False
            connection.execute(_files.delete().where(of_version, _files.c.file != _RECORDING))
            if rows:
                connection.execute(_files.insert(), rows)
            before = (_changes.c.model_version == version, _changes.c.number <= last)
            connection.execute(_changes.delete().where(*before))
        return True

    def _move_vectors(self, matrix: VectorMatrix, views: list[BlockView]) -> None:
        for view in views:
            block = view.block
            if isinstance(block.vectors, np.ndarray) and block.size == view.size:
                with suppress(SnapshotDamaged):
                    stored = open_vectors(self._directory / block.file, view.size)
                    matrix.move_vectors(block, cast("NDArray[np.float32]", stored))

    def forget(self, version: str) -> None:
        """Drop the snapshot of a version, and what was recorded for it."""
        with self._saving, self._db.write() as connection:
            for table in (_files, _changes):
                connection.execute(table.delete().where(table.c.model_version == version))

    def remove_unknown_files(self) -> None:
        """Remove the files that no snapshot has."""
        with self._saving, suppress(OSError):
            with self._db.read() as connection:
                known = set(connection.scalars(sa.select(_files.c.file)))
            for path in self._directory.iterdir():
                if path.name not in known:
                    path.unlink(missing_ok=True)
