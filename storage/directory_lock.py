"""Locks a data directory, so that only one process uses it."""

from __future__ import annotations

import fcntl
from pathlib import Path

from storage.errors import ConfigurationError


class DirectoryLock:
    """Holds a data directory for this process.

    The kernel releases the lock when the process ends, even if it is killed. Raises
    ConfigurationError if another process holds it, or if the directory cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = (directory / "lock").open("a")
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {directory} cannot be used ({error.strerror})."
                " Set LOOKALIKE_DATA_DIR to a directory that can be written to."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigurationError(
                f"another process serves {directory}. Stop it, or set LOOKALIKE_DATA_DIR to a"
                " different directory."
            ) from error

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
