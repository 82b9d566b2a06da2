"""Locks a data directory, so that only one process uses it."""

from __future__ import annotations

import fcntl
from pathlib import Path

from storage.errors import ConfigurationError
from storage.private_files import make_private_directory, open_privately, withdraw_access


class DirectoryLock:
    """Holds a data directory for this process, and takes it from other users of the machine.

    The kernel releases the lock when the process ends, even if it is killed. Raises
    ConfigurationError if another process holds it, or if the directory cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        try:
            make_private_directory(directory)
            self._file = open(  # noqa: SIM115 - it stays open as long as the lock is held
                directory / "lock", "a", opener=open_privately
            )
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

        # Installations of earlier versions. Nobody else reaches what lies deeper then.
        for path in (directory, *directory.iterdir()):
            withdraw_access(path)

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
