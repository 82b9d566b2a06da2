"""Keeps a block of the vector matrix in a file, with checksums of all that it contains.

A file has the columns of the block one after the other, an index in JSON, and at the end the place
and the checksum of the index. It is written once and never changed.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import sys
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any, BinaryIO, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.attribute_columns import AttributeColumns, FrozenColumn, Mask
from storage.durable_files import replace_durably
from storage.filters import Path
from storage.vector_blocks import CODED_COLUMNS, VectorBlock

# Raise it when the meaning of any column changes: files of other formats are not read.
_FORMAT = 1
_MAGIC = b"LKALIKE1"
_END = struct.Struct("<QII8s")  # offset, length and checksum of the index
_PREFETCHED = 1024  # runs of rows; more are read one by one


class SnapshotDamaged(Exception):
    """A file of a snapshot is missing, cannot be read, or is not what was written."""


def write_block(path: FilePath, block: VectorBlock, size: int, collections: Sequence[UUID]) -> None:
    """Write the first ``size`` rows of a block durably. Raises OSError.

    ``collections`` are by their codes. Rows may be appended to the block meanwhile.
    """
    vectors = block.vectors[:size]
    checks = _check_rows(vectors)
    with replace_durably(path, private=True) as file:
        sections = {"vectors": [_write(file, vectors.data.cast("B"))[0]]}
        columns: dict[str, NDArray[Any]] = {"checks": checks}
        columns |= {name: getattr(block, name)[:size] for name in CODED_COLUMNS}
        if block.boxes is not None:
            columns["boxes"] = block.boxes[:size]
        for name, column in columns.items():
            sections[name] = _write(file, np.ascontiguousarray(column).data.cast("B"))
        index = _describe(path, size) | {
            "dimension": vectors.shape[1],
            "sections": sections,
            "collections": [collection.hex for collection in collections],
            "attributes": [
                [list(path), *_write_attributes(file, column, size)]
                for path, column in block.attributes.freeze_all()
            ],
        }
        encoded = json.dumps(index).encode()
        offset, length, check = _write(file, encoded)
        file.write(_END.pack(offset, length, check, _MAGIC))


def _write(file: BinaryIO, content: Any) -> list[int]:
    """Append a section; return its offset, its length and its checksum."""
    offset = file.tell()
    file.write(content)
    return [offset, len(content), zlib.crc32(content)]


def _write_attributes(file: BinaryIO, column: FrozenColumn, size: int) -> list[Any]:
    """Append the values of the first ``size`` rows of a column; return where they are."""
    numbers, coded = column.number_rows < size, column.coded_rows < size
    arrays = (
        column.number_rows[numbers],
        column.numbers[numbers],
        column.coded_rows[coded],
        column.codes[coded],
    )
    content = b"".join([*(each.tobytes() for each in arrays), json.dumps(column.values).encode()])
    return [[len(arrays[0]), len(arrays[2])], _write(file, content)]


def read_block(path: FilePath, alive: Mask) -> tuple[VectorBlock, list[UUID]]:
    """Read a block of which these rows are alive, to be closed, and its collections by their codes.

    Its vectors and attributes stay in the file until they are needed. Raises SnapshotDamaged.
    """
    file = _BlockFile(path)
    index = _read_index(file, path, len(alive))
    try:
        block = _read_columns(file, index)
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotDamaged(f"{path.name} has an unknown structure") from error
    block.file, block.file_rows = path.name, len(alive)
    block.alive[:] = alive
    return block, [UUID(hex=each) for each in index["collections"]]


def _describe(path: FilePath, rows: int) -> dict[str, Any]:
    return {"format": _FORMAT, "byteorder": sys.byteorder, "file": path.name, "rows": rows}


def open_vectors(path: FilePath, rows: int) -> StoredVectors:
    """Return the vectors of a file, which stay there. Raises SnapshotDamaged."""
    file = _BlockFile(path)
    index = _read_index(file, path, rows)
    return _open_vectors(file, index)


def _read_index(file: _BlockFile, path: FilePath, rows: int) -> dict[str, Any]:
    index, expected = file.read_index(), _describe(path, rows)
    if {name: index.get(name) for name in expected} != expected:
        raise SnapshotDamaged(f"{path.name} is not what the database expects")
    return index


def _open_vectors(file: _BlockFile, index: dict[str, Any]) -> StoredVectors:
    checks = np.empty(index["rows"], dtype=np.uint32)
    file.read_into(index["sections"]["checks"], checks)
    return StoredVectors(file, index["sections"]["vectors"][0], checks, index["dimension"])


def _read_columns(file: _BlockFile, index: dict[str, Any]) -> VectorBlock:
    sections, dimension, rows = index["sections"], index["dimension"], index["rows"]
    # Searches only read them, which works as with an array.
    vectors = cast("NDArray[np.float32]", _open_vectors(file, index))
    block = VectorBlock(dimension, rows, vectors)
    for name in CODED_COLUMNS:
        file.read_into(sections[name], getattr(block, name))
    if "boxes" in sections:
        block.boxes = np.empty((rows, 4), dtype=np.int32)
        file.read_into(sections["boxes"], block.boxes)
    block.attributes = AttributeColumns(_StoredAttributes(file, index["attributes"]))
    return block


class _BlockFile:
    """A file that is open until nobody reads it any more, even if it is removed meanwhile."""

    def __init__(self, path: FilePath) -> None:
        self.name = path.name
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotDamaged(f"{path.name}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._descriptor)

    def read_index(self) -> dict[str, Any]:
        end = os.fstat(self._descriptor).st_size - _END.size
        if end < 0:
            raise SnapshotDamaged(f"{self.name} is cut off")
        offset, length, check, magic = _END.unpack(self.read(end, _END.size))
        if magic != _MAGIC:
            raise SnapshotDamaged(f"{self.name} is incomplete")
        index: dict[str, Any] = json.loads(self.read_checked([offset, length, check]))
        return index

    def read_checked(self, section: list[int]) -> bytes:
        offset, length, check = section
        content = self.read(offset, length)
        if zlib.crc32(content) != check:
            raise SnapshotDamaged(f"{self.name} has a wrong checksum")
        return content

    def read_into(self, section: list[int], array: NDArray[Any]) -> None:
        """Fill an array of the section's size."""
        offset, length, check = section
        if length != array.nbytes:
            raise SnapshotDamaged(f"{self.name} has a column of another length")
        target = array.data.cast("B") if length else memoryview(b"")
        try:
            with open(self._descriptor, "rb", buffering=0, closefd=False) as raw:
                raw.seek(offset)
                done = 0
                while done < length and (count := raw.readinto(target[done:])):
                    done += count
        except OSError as error:
            raise SnapshotDamaged(f"{self.name}: {error.strerror}") from error
        if done != length or zlib.crc32(target) != check:
            raise SnapshotDamaged(f"{self.name} has a wrong checksum")

    def read(self, offset: int, length: int) -> bytes:
        try:
            content = os.pread(self._descriptor, length, offset)
            while 0 < len(content) < length:
                more = os.pread(self._descriptor, length - len(content), offset + len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise SnapshotDamaged(f"{self.name}: {error.strerror}") from error
        if len(content) != length:
            raise SnapshotDamaged(f"{self.name} is cut off")
        return content

    def prefetch(self, runs: Sequence[tuple[int, int]]) -> None:
        """Let the kernel read several places at once; macOS has no such call."""
        if hasattr(os, "posix_fadvise") and 1 < len(runs) <= _PREFETCHED:
            for offset, length in runs:
                os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)


class StoredVectors:
    """The vectors of a block, read from its file and verified row by row on each access.

    It has what searches use of an array: ``vectors[rows]``, ``dtype`` and ``shape``.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, file: _BlockFile, offset: int, checks: NDArray[np.uint32], dimension: int
    ) -> None:
        self._file = file
        self._offset = offset
        self._checks = checks
        self.shape = (len(checks), dimension)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[np.float32]:
        """Return the rows, ``(n, d)``. Raises SnapshotDamaged."""
        chosen = np.arange(len(self))[rows]
        width = self.shape[1] * self.dtype.itemsize
        found = np.empty((len(chosen), width), dtype=np.uint8)
        runs = [
            (self._offset + int(chosen[start]) * width, (end - start) * width, start, end)
            for start, end in _find_runs(chosen)
        ]
        self._file.prefetch([(offset, length) for offset, length, _, _ in runs])
        for offset, length, start, end in runs:
            content = np.frombuffer(self._file.read(offset, length), dtype=np.uint8)
            found[start:end] = content.reshape(-1, width)
        checks = _check_rows(found)
        if not np.array_equal(checks, self._checks[chosen]):
            raise SnapshotDamaged(f"{self._file.name} has a vector with a wrong checksum")
        return found.view(np.float32)


def _check_rows(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """Return the checksum of each row."""
    checks = (zlib.crc32(row.data) for row in rows)
    return np.fromiter(checks, dtype=np.uint32, count=len(rows))


def _find_runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the runs in which each row follows the one before."""
    if len(rows):
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        bounds = [0, *breaks.tolist(), len(rows)]
        yield from itertools.pairwise(bounds)


class _StoredAttributes:
    """The attributes of a block in its file, one section for each path."""

    def __init__(self, file: _BlockFile, index: list[Any]) -> None:
        self._file = file
        self._sections = {tuple(path): (counts, section) for path, counts, section in index}

    def paths(self) -> Iterable[Path]:
        return self._sections

    def read(self, path: Path) -> FrozenColumn | None:
        """Return the column at a path. Raises SnapshotDamaged."""
        if path not in self._sections:
            return None
        (numbers, coded), section = self._sections[path]
        content, offset = self._file.read_checked(section), 0
        arrays: list[NDArray[Any]] = []
        for count, kind in ((numbers, "i4"), (numbers, "f8"), (coded, "i4"), (coded, "i4")):
            array = np.frombuffer(content, dtype=kind, count=count, offset=offset)
            arrays.append(array.copy())  # so that the rest of the content is not kept
            offset += array.nbytes
        code_of = {value: code for code, value in enumerate(json.loads(content[offset:]))}
        return FrozenColumn(arrays[0], arrays[1], arrays[2], arrays[3], code_of)
