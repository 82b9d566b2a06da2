"""Locks the embedded stores, so that only one process uses them."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from storage.errors import ConfigurationError
from storage.private_files import make_private_directory, open_privately, withdraw_access
from storage.store_urls import StoreUrls


class StoreLocks:
    """Holds the embedded stores for this process, whatever path or link leads to them.

    It also takes the data directory from other users of the machine.

    The lock of a database is a file beside it, and that of the objects is in their directory. If
    only the vectors are embedded, ``directory`` is held. The kernel releases the locks when the
    process ends, even if it is killed. Raises ConfigurationError if another process holds one of
    them, or if a directory cannot be used.
    """

    def __init__(self, urls: StoreUrls, directory: Path) -> None:
        with ExitStack() as on_failure:
            for store, path in _find_lock_files(urls, directory).items():
                file = on_failure.enter_context(_lock(store, path))
                on_failure.callback(_clear, file)
            self._held = on_failure.pop_all()
        # Installations of earlier versions. Nobody else reaches what lies deeper then.
        if directory.is_dir():
            for path in (directory, *directory.iterdir()):
                withdraw_access(path)

    def __enter__(self) -> StoreLocks:
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()


def _find_lock_files(urls: StoreUrls, directory: Path) -> dict[Path, Path]:
    """Map the real path of each embedded store to its lock file."""
    files = {}
    if database := find_database_file(urls.database):
        files[database] = database.with_name(database.name + ".lock")
    if urls.objects.startswith("file:"):
        objects = Path(os.path.realpath(unquote(urlsplit(urls.objects).path)))
        files[objects] = objects / ".process" / "lock"  # no object: its folder begins with a dot
    return files or {directory: directory / "lock"}


def find_database_file(url: str) -> Path | None:
    """Return the real path of SQLite's file; None for a server or a URL that cannot be opened."""
    with suppress(sa.exc.ArgumentError, ValueError, TypeError):
        parts = sa.make_url(url)
        if parts.drivername == "sqlite" and parts.database not in (None, "", ":memory:"):
            name = str(parts.database)
            if "uri" in parts.query:
                name = unquote(urlsplit(name).path)
            return Path(os.path.realpath(name))
    return None


def _lock(store: Path, path: Path) -> IO[str]:
    """Return the locked file, which names this process. Raises ConfigurationError."""
    try:
        make_private_directory(path.parent)
        file = open(  # noqa: SIM115 - it stays open as long as the lock is held
            path, "a+", errors="replace", opener=open_privately
        )
    except OSError as error:
        raise ConfigurationError(
            f"{store} cannot be used ({error.strerror}: {path}). Set LOOKALIKE_DATA_DIR,"
            " LOOKALIKE_DATABASE_URL or LOOKALIKE_OBJECTS_URL to a place that can be written to."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with file:
            holder = _read_holder(file)
        raise ConfigurationError(
            f"another process serves {store}{holder}. Stop it, or set LOOKALIKE_DATA_DIR,"
            " LOOKALIKE_DATABASE_URL or LOOKALIKE_OBJECTS_URL to a different place."
        ) from error
    with suppress(OSError):  # a full disk: the lock is held all the same
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()} {socket.gethostname()}\n".encode())
    return file


def _clear(file: IO[str]) -> None:
    """Remove the name of this process, so that what it only opened is as it was."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)


def _read_holder(file: IO[str]) -> str:
    """Return who holds the lock, for a message; nothing if the file does not say so."""
    file.seek(0)
    process, _, host = file.read(300).strip().partition(" ")
    if not (process.isdecimal() and host.isprintable() and host):
        return ""
    return f" (process {process} on {host})"
