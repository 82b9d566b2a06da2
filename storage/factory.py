"""Builds the three stores from their URLs: the scheme picks the backend."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import sqlalchemy as sa

from storage import schema_upgrade
from storage.database import Database, DatabaseOptions
from storage.errors import ConfigurationError, StoreUnavailable
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.objects_local import LocalObjectStore
from storage.objects_s3 import S3ObjectStore, S3Options
from storage.protocols import Stores
from storage.vectors_exact import ExactVectorStore
from storage.vectors_milvus import MilvusOptions, MilvusVectorStore


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
    def shown(self) -> dict[str, str]:
        """Where the stores are, without user and password."""
        return {
            name: re.sub(r"//[^/]*@", "//", url.partition("?")[0])
            for name, url in (
                ("database", self.database),
                ("objects", self.objects),
                ("vectors", self.vectors),
            )
        }

    @property
    def mixed(self) -> bool:
        """A database on a server, and something else in this process: seldom meant."""
        return self.embedded and not self.database.startswith("sqlite:")

    @property
    def embedded(self) -> bool:
        """Whether any store lives in this process, which must then be the only one."""
        return (
            self.database.startswith("sqlite:")
            or self.objects.startswith("file:")
            or self.vectors == "embedded:"
        )


def open_stores(urls: StoreUrls, *, searched: bool = True, shared: bool = False) -> Stores:
    """The stores, ready for use: the embedded database migrated, a bucket made, vectors loaded unless not ``searched``.

    ``shared``: beside a running service on the same embedded stores, which has them migrated; only for reading.
    Raises ConfigurationError for what no waiting will mend, StoreUnavailable for what it may. Milvus is not waited for: it
    is connected to when it is first needed.
    """
    with ExitStack() as on_failure:
        database = on_failure.enter_context(closing(_database(urls)))
        metadata = SqlMetadataStore(database)
        _refuse_newer(database)
        if database.embedded and not shared:
            metadata.upgrade_schema()
        elif database.embedded and not schema_upgrade.is_newest(database):
            raise ConfigurationError(
                "the installation's schema is not this program's: run the program that serves it"
            )
        elif not database.embedded and not schema_upgrade.is_newest(database):
            raise StoreUnavailable(
                "metadata", "its schema is not this version's: run `lookalike db upgrade`"
            )
        objects = on_failure.enter_context(closing(_objects(urls, shared=shared)))
        vectors = on_failure.enter_context(closing(_vectors(urls, database, load=searched)))
        on_failure.pop_all()
        return Stores(
            metadata=metadata, registry=SqlModelRegistry(database), objects=objects, vectors=vectors
        )


def upgrade_schema(urls: StoreUrls) -> None:
    """Bring the database to this version's schema. Raises ConfigurationError, StoreUnavailable."""
    with closing(_database(urls)) as database:
        _refuse_newer(database)
        schema_upgrade.upgrade(database)


def _refuse_newer(database: Database) -> None:
    """The first connection: what the driver does not take of the URL shows here, too."""
    try:
        unknown = schema_upgrade.is_unknown(database)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ConfigurationError(
            f"LOOKALIKE_DATABASE_URL cannot be used ({type(error).__name__}: {error})"
        ) from None
    if unknown:
        raise ConfigurationError(
            "the database's schema is of a newer version than this program: update the program"
        )


def _database(urls: StoreUrls) -> Database:
    hint = "it takes sqlite:///path or mysql+pymysql://user:password@host/name, with @ : / # % in the password percent-encoded"
    try:
        url = sa.make_url(urls.database)
        if url.drivername not in ("sqlite", "mysql+pymysql") or not url.database:
            raise ConfigurationError(f"LOOKALIKE_DATABASE_URL is {_scheme(urls.database)}; {hint}")
        return Database(
            urls.database, DatabaseOptions(pool=urls.database_pool, timeout=urls.timeout)
        )
    except (sa.exc.ArgumentError, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(
            f"LOOKALIKE_DATABASE_URL cannot be used ({type(error).__name__}: {error}); {hint}"
        ) from None


def _objects(urls: StoreUrls, *, shared: bool) -> LocalObjectStore | S3ObjectStore:
    hint = "it takes file:///path or s3://KEY:SECRET@host:port/bucket?secure=true&region=…, with / in the secret written as %2F"
    try:
        parts = urlsplit(urls.objects)
        if parts.scheme == "file":
            return LocalObjectStore(Path(unquote(parts.path)), shared=shared)
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        secure = {"true": True, "false": False}.get(query.pop("secure", "true").lower())
        region = query.pop("region", None)
        if (
            parts.scheme != "s3"
            or not parts.hostname
            or not parts.username
            or query
            or secure is None
        ):
            raise ConfigurationError(f"LOOKALIKE_OBJECTS_URL is {_scheme(urls.objects)}; {hint}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        options = S3Options(
            endpoint=f"{host}:{parts.port}" if parts.port else host,
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password or ""),
            bucket=parts.path.strip("/"),
            secure=secure,
            region=region,
            timeout=urls.timeout,
            create_bucket=urls.create_bucket,
            public_url=urls.public_objects,
        )
        store = S3ObjectStore(options)
        store.prepare()
    except ValueError as error:  # a port, a bucket's name
        raise ConfigurationError(
            f"LOOKALIKE_OBJECTS_URL cannot be used ({error}); {hint}"
        ) from None
    return store


def _vectors(
    urls: StoreUrls, database: Database, *, load: bool
) -> ExactVectorStore | MilvusVectorStore:
    if urls.vectors == "embedded:":
        exact = ExactVectorStore(database)
        if load:
            exact.load()
        return exact
    try:
        parts = urlsplit(urls.vectors)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or (parts.port is None and ":" in parts.netloc)
        ):
            raise ValueError(_scheme(urls.vectors))
        certificate = urls.milvus.get("ca_certificate")
        if certificate:
            Path(certificate).read_bytes()
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            f"LOOKALIKE_VECTORS_URL or LOOKALIKE_MILVUS_CA_CERTIFICATE cannot be used ({error}); it takes embedded: or http://milvus:19530"
        ) from None
    return MilvusVectorStore(MilvusOptions(urls.vectors, timeout=urls.timeout, **urls.milvus))


def _scheme(url: str) -> str:
    return url.split(":", 1)[0] + ":…"
