"""Builds the three stores from their URLs: the scheme picks the backend."""

from __future__ import annotations

import fcntl
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.database import Database
from storage.metadata import SqlMetadataStore
from storage.objects_local import LocalObjectStore
from storage.protocols import Stores
from storage.vectors_exact import ExactVectorStore


class ConfigurationError(Exception):
    """The settings cannot be served with; the message says which and what to do."""


def open_stores(database_url: str, objects_url: str, vectors_url: str) -> Stores:
    """Open, migrate and load the stores. Raises ConfigurationError for a scheme that has no backend, StoreUnavailable."""
    if not database_url.startswith("sqlite:"):
        raise ConfigurationError(f"LOOKALIKE_DATABASE_URL is {_scheme(database_url)}; it takes sqlite:///path")
    if not objects_url.startswith("file://"):
        raise ConfigurationError(f"LOOKALIKE_OBJECTS_URL is {_scheme(objects_url)}; it takes file:///path")
    if vectors_url != "embedded:":
        raise ConfigurationError(f"LOOKALIKE_VECTORS_URL is {_scheme(vectors_url)}; it takes embedded:")
    database = Database(database_url)
    metadata = SqlMetadataStore(database)
    metadata.migrate()
    objects = LocalObjectStore(Path(unquote(urlsplit(objects_url).path)))
    vectors = ExactVectorStore(database)
    vectors.load()
    return Stores(metadata=metadata, objects=objects, vectors=vectors)


def _scheme(url: str) -> str:
    return url.split(":", 1)[0] + ":…"


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
