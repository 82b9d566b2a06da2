"""Writes files that a crash or a power cut leaves complete or absent, never half written."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from storage.private_files import PRIVATE_DIRECTORY, open_privately

_RENAME_ATTEMPTS = 20


@contextmanager
def replace_durably(
    target: Path, *, temporary: Path | None = None, private: bool = False
) -> Iterator[BinaryIO]:
    """Yield a file for writing and reading that takes the place of ``target`` after the block.

    The file is flushed to the disk, then renamed, and the rename is flushed before this returns.
    Missing directories are created. If the block or a step after it raises, ``target`` stays as it
    was and the temporary file is removed.

    ``temporary`` is the path of the file until then, on the same file system. The default is the
    name of the target with ``.partial`` appended, which suits one writer at a time. A process that
    is killed leaves it behind; the next writer overwrites it. ``private`` gives the file and new
    directories to their owner alone. Raises OSError.
    """
    if temporary is None:
        temporary = target.with_name(target.name + ".partial")
        make_durable_directory(target.parent, private=private)
    try:
        with open(temporary, "w+b", opener=open_privately if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _move_into_place(temporary, target, private=private)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(target: Path, content: bytes, *, private: bool = False) -> None:
    """Write the content to ``target``, as ``replace_durably`` does. Raises OSError."""
    with replace_durably(target, private=private) as file:
        file.write(content)


def make_durable_directory(directory: Path, *, private: bool = False) -> None:
    """Create the directory and its missing parents, each flushed to the disk. Raises OSError."""
    if not directory.is_dir():
        make_durable_directory(directory.parent, private=private)
        # Not exist_ok: with it, mkdir checks again and fails if the directory is removed meanwhile.
        with suppress(FileExistsError):
            directory.mkdir(PRIVATE_DIRECTORY if private else 0o777)
        flush_directory(directory.parent)


def flush_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk, so that renames and removals in it are durable.

    Threads that wait for a flush of the same directory share the next one. Raises OSError.
    """
    with _request_flush(directory) as (flushes, number), flushes.running:
        if flushes.done < number:  # no flush has begun since this one was requested
            satisfied = flushes.requested
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            flushes.done = satisfied


@dataclass
class _Flushes:
    """The flushes of one directory that threads wait for."""

    threads: int = 0
    requested: int = 0
    done: int = 0  # requests that are satisfied
    running: threading.Lock = field(default_factory=threading.Lock)


_flushes: defaultdict[Path, _Flushes] = defaultdict(_Flushes)
_flushes_lock = threading.Lock()


@contextmanager
def _request_flush(directory: Path) -> Iterator[tuple[_Flushes, int]]:
    """Yield the flushes of the directory, and the number of this request among them."""
    with _flushes_lock:
        flushes = _flushes[directory]
        flushes.threads += 1
        flushes.requested += 1
        number = flushes.requested
    try:
        yield flushes, number
    finally:
        with _flushes_lock:
            flushes.threads -= 1
            if not flushes.threads:
                del _flushes[directory]


def _move_into_place(temporary: Path, target: Path, *, private: bool) -> None:
    for attempt in range(_RENAME_ATTEMPTS):
        try:
            make_durable_directory(target.parent, private=private)
            os.rename(temporary, target)
            break
        except FileNotFoundError:  # another process removed the empty directory meanwhile
            if attempt == _RENAME_ATTEMPTS - 1:
                raise
    flush_directory(target.parent)
