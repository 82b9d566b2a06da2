"""Keeps the files of an installation from other users of the machine, whatever the umask."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
_OTHERS = 0o077


def open_privately(path: str | Path, flags: int) -> int:
    """Open a file, and give a new one to its owner alone; an ``opener`` for ``open``."""
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)


def make_private_directory(directory: Path) -> None:
    """Create the directory for its owner alone, unless it exists. Raises OSError."""
    directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)


def create_privately(path: Path) -> None:
    """Create an empty file for its owner alone, if that is possible and there is none."""
    with suppress(OSError):
        os.close(open_privately(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))


def withdraw_access(path: Path) -> None:
    """Take all permissions from others than the owner; do nothing if the owner is another user."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if mode & _OTHERS and not path.is_symlink():
            path.chmod(mode & 0o7700)
