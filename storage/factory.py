"""Builds the three stores from their URLs: the scheme picks the backend."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from storage import migrations
from storage.database import Database, DatabaseOptions
from storage.metadata import SqlMetadataStore
from storage.objects_local import LocalObjectStore
from storage.objects_s3 import S3ObjectStore, S3Options
from storage.protocols import Stores, StoreUnavailable
from storage.vectors_exact import ExactVectorStore
from storage.vectors_milvus import MilvusOptions, MilvusVectorStore


class ConfigurationError(Exception):
    """The settings cannot be served with; the message says which and what to do."""


@dataclass(frozen=True)
class StoreUrls:
    """``database``: sqlite:///path or mysql+pymysql://…; ``objects``: file:///path or s3://KEY:SECRET@host:port/bucket;

    ``vectors``: embedded: or http://milvus:19530. ``timeout`` in seconds bounds every call to a server.
    """

    database: str
    objects: str
    vectors: str
    timeout: float = 10.0
    database_pool: int = 32
    create_bucket: bool = True
    public_objects: str = ""
    milvus: dict[str, Any] = field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        """Whether any store lives in this process, which must then be the only one."""
        return self.database.startswith("sqlite:") or self.objects.startswith("file:") or self.vectors == "embedded:"


def open_stores(urls: StoreUrls) -> Stores:
    """The stores, ready for use: the embedded database migrated, a bucket made, vectors loaded.

    Raises ConfigurationError for what no waiting will mend, StoreUnavailable for what it may. Milvus is not waited for: it
    is connected to when it is first needed.
    """
    with ExitStack() as on_failure:
        database = on_failure.enter_context(closing(_database(urls)))
        metadata = SqlMetadataStore(database)
        if database.embedded:
            metadata.migrate()
        elif not migrations.is_newest(database):
            raise StoreUnavailable("metadata", "its schema is not this version's: run `lookalike db upgrade`")
        objects = on_failure.enter_context(closing(_objects(urls)))
        vectors = on_failure.enter_context(closing(_vectors(urls, database)))
        on_failure.pop_all()
        return Stores(metadata=metadata, objects=objects, vectors=vectors)


def upgrade_schema(urls: StoreUrls) -> None:
    """Bring the database to this version's schema. Raises ConfigurationError, StoreUnavailable."""
    with closing(_database(urls)) as database:
        migrations.upgrade(database)


def _database(urls: StoreUrls) -> Database:
    if not urls.database.startswith(("sqlite:", "mysql+pymysql:")):
        raise ConfigurationError(
            f"LOOKALIKE_DATABASE_URL is {_scheme(urls.database)}; it takes sqlite:///path or mysql+pymysql://user:password@host/name"
        )
    return Database(urls.database, DatabaseOptions(pool=urls.database_pool, timeout=urls.timeout))


def _objects(urls: StoreUrls) -> LocalObjectStore | S3ObjectStore:
    parts = urlsplit(urls.objects)
    if parts.scheme == "file":
        return LocalObjectStore(Path(unquote(parts.path)))
    bucket, query = parts.path.strip("/"), dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not bucket or not parts.hostname or not parts.username:
        raise ConfigurationError(
            f"LOOKALIKE_OBJECTS_URL is {_scheme(urls.objects)}; it takes file:///path or s3://KEY:SECRET@host:port/bucket?secure=true"
        )
    port = f":{parts.port}" if parts.port else ""
    store = S3ObjectStore(
        S3Options(
            endpoint=f"{parts.hostname}{port}",
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password or ""),
            bucket=bucket,
            secure=query.get("secure", "true") == "true",
            region=query.get("region"),
            timeout=urls.timeout,
            create_bucket=urls.create_bucket,
            public_url=urls.public_objects,
        )
    )
    store.prepare()
    return store


def _vectors(urls: StoreUrls, database: Database) -> ExactVectorStore | MilvusVectorStore:
    if urls.vectors == "embedded:":
        exact = ExactVectorStore(database)
        exact.load()
        return exact
    if not urls.vectors.startswith(("http://", "https://")):
        raise ConfigurationError(f"LOOKALIKE_VECTORS_URL is {_scheme(urls.vectors)}; it takes embedded: or http://milvus:19530")
    return MilvusVectorStore(MilvusOptions(urls.vectors, timeout=urls.timeout, **urls.milvus))


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
