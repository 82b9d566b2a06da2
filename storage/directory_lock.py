"""The lock that keeps a data directory to one process."""

from __future__ import annotations

import fcntl
from pathlib import Path

from storage.errors import ConfigurationError


class DirectoryLock:
    """Keeps a second process off the same data directory; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = (directory / "lock").open("a")
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {directory} cannot be used: {error}. Set LOOKALIKE_DATA_DIR."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigurationError(
                f"another process serves {directory}. Stop it, or set LOOKALIKE_DATA_DIR to a different directory."
            ) from error

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
