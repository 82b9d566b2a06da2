"""The object store in a local directory: atomic, durable writes; keys are paths below it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from storage.errors import ObjectMissing, StoreUnavailable
from storage.records import ObjectInfo

CHUNK = 256 * 1024  # bytes
_RENAME_ATTEMPTS = 20


class LocalObjectStore:
    """A put writes a temporary file, fsyncs, renames, fsyncs the directories: whole or absent after a crash."""

    def __init__(self, root: Path, *, shared: bool = False) -> None:
        """``shared``: another process may be writing there, so that what lies half written is not left over."""
        self._root = root
        self._temporary = root / ".incoming"
        with _as_unavailable():
            self._temporary.mkdir(parents=True, exist_ok=True)
            if not shared:
                for left_over in self._temporary.iterdir():  # of a process that was killed
                    left_over.unlink()

    def _path(self, key: str) -> Path:
        if ".." in PurePosixPath(key).parts or key.startswith((".", "/")):
            raise ValueError(f"not an object key: {key!r}")
        return self._root / key

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None:
        target = self._path(key)
        temporary = self._temporary / os.urandom(16).hex()
        with _as_unavailable():
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                with os.fdopen(descriptor, "wb") as output:
                    while chunk := file.read(CHUNK):
                        output.write(chunk)
                    output.flush()
                    os.fsync(descriptor)
                    if output.tell() != size:
                        raise OSError(f"{output.tell()} bytes came, {size} were announced")
                self._move_into_place(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def _move_into_place(self, temporary: Path, target: Path) -> None:
        for attempt in range(_RENAME_ATTEMPTS):
            try:
                self._make_durable_directory(target.parent)
                os.rename(temporary, target)
                break
            except FileNotFoundError:  # a delete took the empty directory away meanwhile
                if attempt == _RENAME_ATTEMPTS - 1:
                    raise
        _fsync_directory(target.parent)

    def _make_durable_directory(self, directory: Path) -> None:
        """Create it, with its missing parents, each entered durably into the one above."""
        if not directory.is_dir():
            self._make_durable_directory(directory.parent)
            with suppress(
                FileExistsError
            ):  # not exist_ok: it looks again, and fails if a delete was faster than the look
                directory.mkdir()
            _fsync_directory(directory.parent)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.stat(key)
        return self._chunks(self._path(key), offset, length)

    @staticmethod
    def _chunks(path: Path, offset: int, length: int | None) -> Iterator[bytes]:
        with _as_unavailable(), path.open("rb") as file:
            file.seek(offset)
            left = length if length is not None else -1
            while left != 0 and (chunk := file.read(CHUNK if left < 0 else min(CHUNK, left))):
                left -= len(chunk) if left > 0 else 0
                yield chunk

    def stat(self, key: str) -> ObjectInfo:
        with _as_unavailable(key):
            found = self._path(key).stat()
        if not stat.S_ISREG(found.st_mode):
            raise ObjectMissing(key)
        return ObjectInfo(key, found.st_size, found.st_mtime)

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        return None

    def delete(self, key: str) -> None:
        """Removes directories that become empty, too."""
        path = self._path(key)
        with _as_unavailable():
            path.unlink(missing_ok=True)
            for directory in path.parents:
                if directory == self._root or self._is_kept(directory):
                    break

    @staticmethod
    def _is_kept(directory: Path) -> bool:
        """Remove a directory if it is empty; one that is not is kept, the removal inside it made durable."""
        try:
            directory.rmdir()
        except FileNotFoundError:  # another delete was faster
            return False
        except OSError:
            with suppress(FileNotFoundError):
                _fsync_directory(directory)
                return True
        return False

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with _as_unavailable():
            for directory, folders, files in os.walk(self._root / prefix):
                folders[:] = sorted(
                    name for name in folders if not name.startswith(".")
                )  # half-written uploads are not there
                for name in sorted(files):
                    path = Path(directory) / name
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        found = path.lstat()
                        yield ObjectInfo(
                            path.relative_to(self._root).as_posix(), found.st_size, found.st_mtime
                        )

    def ping(self) -> None:
        with _as_unavailable():
            if not os.access(self._temporary, os.W_OK):
                raise PermissionError(f"{self._temporary} cannot be written to")

    def close(self) -> None:
        pass


@contextmanager
def _as_unavailable(key: str | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if key is not None and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ObjectMissing(key) from error
        raise StoreUnavailable("object", str(error)) from error


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
