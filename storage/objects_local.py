"""The object store in a local directory. Keys are paths below it."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from storage.durable_files import (
    flush_directory,
    make_durable_directory,
    replace_durably,
)
from storage.errors import ObjectMissing, StoreFull, StoreUnavailable, is_disk_full
from storage.private_files import make_private_directory, withdraw_access
from storage.records import ObjectInfo

CHUNK = 256 * 1024  # bytes read or written at once
_UNFINISHED = ".incoming"  # folder of unfinished uploads


class LocalObjectStore:
    """ObjectStore for the processes of one machine. An object is whole or absent after a crash."""

    def __init__(self, root: Path, *, shared: bool = False) -> None:
        """Create the directory.

        ``shared`` means that another process may be writing to it. Otherwise the unfinished uploads
        that a killed process left behind are removed. Raises StoreUnavailable.
        """
        self._root = root
        self._temporary = root / _UNFINISHED
        with _as_store_errors():
            make_private_directory(root)
            withdraw_access(root)
            make_private_directory(self._temporary)
            if not shared:
                for unfinished in self._temporary.iterdir():
                    unfinished.unlink()

    def _path(self, key: str) -> Path:
        if ".." in PurePosixPath(key).parts or key.startswith((".", "/")):
            raise ValueError(
                f"an object key is a relative path without .., unlike {json.dumps(key)}"
            )
        return self._root / key

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None:
        target = self._path(key)
        temporary = self._temporary / os.urandom(16).hex()
        with (
            _as_store_errors(),
            replace_durably(target, temporary=temporary, private=True) as output,
        ):
            while chunk := file.read(CHUNK):
                output.write(chunk)
            if output.tell() != size:
                raise OSError(f"the upload has {output.tell()} bytes, but {size} were announced")

    def create(self, key: str, content: bytes, content_type: str) -> bool:
        target = self._path(key)
        temporary = self._temporary / os.urandom(16).hex()
        with _as_store_errors():
            make_durable_directory(target.parent, private=True)
            with replace_durably(temporary, private=True) as output:
                output.write(content)
            try:
                _link_or_rename(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            flush_directory(target.parent)
        return True

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.stat(key)
        return self._chunks(self._path(key), offset, length)

    @staticmethod
    def _chunks(path: Path, offset: int, length: int | None) -> Iterator[bytes]:
        with _as_store_errors(), path.open("rb") as file:
            file.seek(offset)
            if length is None:
                while chunk := file.read(CHUNK):
                    yield chunk
                return
            while chunk := file.read(min(CHUNK, length)):
                length -= len(chunk)
                yield chunk

    def stat(self, key: str) -> ObjectInfo:
        with _as_store_errors(key):
            found = self._path(key).stat()
        if not stat.S_ISREG(found.st_mode):
            raise ObjectMissing(key)
        return ObjectInfo(key, found.st_size, found.st_mtime)

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        return None

    def copy(self, key: str, target: str) -> None:
        size = self.stat(key).size
        with _as_store_errors(key), self._path(key).open("rb") as file:
            self.put(target, file, size, "", "")

    def delete(self, key: str) -> None:
        """Delete the object, and the directories that become empty."""
        path = self._path(key)
        with _as_store_errors():
            path.unlink(missing_ok=True)
            for directory in path.parents:
                if directory == self._root or not _remove_if_empty(directory):
                    break

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with _as_store_errors():
            for directory, folders, files in os.walk(self._root / prefix):
                # Folders with a dot hold unfinished uploads.
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(files):
                    path = Path(directory) / name
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        found = path.lstat()
                        key = path.relative_to(self._root).as_posix()
                        yield ObjectInfo(key, found.st_size, found.st_mtime)

    def abort_unfinished(self, prefix: str, before: float) -> int:
        return 0  # the next process that opens the store for itself removes unfinished files

    def ping(self) -> None:
        with _as_store_errors():
            if not os.access(self._temporary, os.W_OK):
                raise PermissionError(f"{self._temporary} is not writable")

    def close(self) -> None:
        pass


def _link_or_rename(temporary: Path, target: Path) -> None:
    """Give the file its name. Raises FileExistsError if the name is taken."""
    try:
        os.link(temporary, target)  # unlike a rename, it fails if the target exists
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        # The file system has no hard links. Only one process creates objects in a local directory.
        if target.exists():
            raise FileExistsError from None
        temporary.rename(target)


def _remove_if_empty(directory: Path) -> bool:
    """Remove an empty directory.

    Returns False if it is not empty; the removals inside it are then flushed to the disk.
    """
    try:
        directory.rmdir()
    except FileNotFoundError:  # another deletion was faster
        return True
    except OSError:
        with suppress(FileNotFoundError):
            flush_directory(directory)
            return False
    return True


@contextmanager
def _as_store_errors(key: str | None = None) -> Iterator[None]:
    """Turn an OSError into ObjectMissing if ``key`` is given and missing, else StoreUnavailable."""
    try:
        yield
    except OSError as error:
        if key is not None and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ObjectMissing(key) from error
        kind = StoreFull if is_disk_full(error) else StoreUnavailable
        raise kind("object", str(error)) from error
