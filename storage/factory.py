"""Opens the stores that the URLs name.

The server backends are imported only when a URL asks for them, so that the embedded default starts
without pymilvus, minio and PyMySQL.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import sqlalchemy as sa

from storage import schema_upgrade
from storage.database import Database
from storage.errors import ConfigurationError, StoreUnavailable
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.mysql_engine import DatabaseOptions
from storage.objects_local import LocalObjectStore
from storage.protocols import ObjectStore, Stores, VectorStore
from storage.records import ModelState
from storage.store_locks import find_database_file
from storage.store_urls import StoreUrls
from storage.vectors_exact import ExactVectorStore

if TYPE_CHECKING:
    from storage.objects_s3 import S3Options

_DATABASE_HINT = (
    "Use sqlite:///path or mysql+pymysql://user:password@host/name,"
    " with @ : / # % in the password percent-encoded."
)
_OBJECTS_HINT = (
    "Use file:///path or s3://KEY:SECRET@host:port/bucket?secure=true&region=…,"
    " with / in the secret written as %2F."
)


def open_stores(urls: StoreUrls, *, load_vectors: bool = True, read_only: bool = False) -> Stores:
    """Open the stores, ready for use.

    The schema of an embedded database is upgraded, and a missing bucket is created. Embedded
    vectors are read into memory in the background, unless ``load_vectors`` is false. ``read_only``
    opens embedded stores beside a running service, so that their schema and unfinished uploads are
    left alone. Milvus is connected to when it is first used.

    Raises ConfigurationError if the settings are wrong, so that waiting does not help, and
    StoreUnavailable if a store does not answer yet.
    """
    with ExitStack() as on_failure:
        database = on_failure.enter_context(closing(_open_database(urls)))
        metadata = SqlMetadataStore(database)
        _check_schema(database)
        if database.embedded and not read_only:
            metadata.upgrade_schema()
        elif not schema_upgrade.is_newest(database):
            if database.embedded:
                raise ConfigurationError(
                    "The installation's schema belongs to another version of this program."
                    " Run the version that serves it."
                )
            raise StoreUnavailable(
                "metadata", "its schema belongs to another version: run `lookalike db upgrade`"
            )
        objects = on_failure.enter_context(closing(open_objects(urls, shared=read_only)))
        vectors = on_failure.enter_context(
            closing(_open_vectors(urls, database, load=load_vectors, read_only=read_only))
        )
        on_failure.pop_all()
    stores = Stores(metadata, SqlModelRegistry(database), objects, vectors)
    if database.embedded and isinstance(vectors, ExactVectorStore):
        return replace(stores, together=database.write)
    return stores


def upgrade_schema(urls: StoreUrls) -> None:
    """Upgrade the database's schema to this version.

    Raises ConfigurationError or StoreUnavailable.
    """
    with closing(_open_database(urls)) as database:
        _check_schema(database)
        schema_upgrade.upgrade(database)


def _check_schema(database: Database) -> None:
    """Refuse a database whose schema is newer than this program. Raises ConfigurationError.

    It makes the first connection, so a URL that the driver refuses also fails here.
    """
    try:
        unknown = schema_upgrade.is_unknown(database)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise ConfigurationError(
            f"LOOKALIKE_DATABASE_URL cannot be used ({_reason(error)}). {_DATABASE_HINT}"
        ) from None
    if unknown:
        raise ConfigurationError(
            "The database's schema is newer than this program. Update the program."
        )


def _open_database(urls: StoreUrls) -> Database:
    try:
        url = _parse_database_url(urls.database)
        if url.drivername not in ("sqlite", "mysql+pymysql") or not url.database:
            raise ValueError(f"{_scheme(urls.database)} is not a supported URL")
        options = DatabaseOptions(pool=urls.database_pool, timeout=urls.timeout)
        return Database(urls.database, options)
    except (sa.exc.ArgumentError, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(
            f"LOOKALIKE_DATABASE_URL cannot be used ({_reason(error)}). {_DATABASE_HINT}"
        ) from None


def _parse_database_url(text: str) -> sa.URL:
    """Parse the URL. Raises ValueError, whose message does not quote the URL."""
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError("it cannot be parsed") from None
    if "@" in (url.host or ""):  # the rest of a password
        raise ValueError("its password contains @")
    return url


def open_objects(urls: StoreUrls, *, shared: bool) -> ObjectStore:
    """Open the object store alone; a missing bucket is created.

    ``shared`` means that another process may be using a local one. Raises ConfigurationError,
    StoreUnavailable.
    """
    if urls.objects.startswith("file:"):
        return LocalObjectStore(Path(unquote(urlsplit(urls.objects).path)), shared=shared)
    from storage.objects_s3 import S3ObjectStore

    try:
        store = S3ObjectStore(_s3_options(urls))
        store.prepare()
    except ValueError as error:  # minio raises it too, for an invalid bucket name
        raise ConfigurationError(
            f"LOOKALIKE_OBJECTS_URL cannot be used ({error}). {_OBJECTS_HINT}"
        ) from None
    return store


def _s3_options(urls: StoreUrls) -> S3Options:
    """Parse the URL of an S3-compatible store. Raises ValueError."""
    from storage.objects_s3 import S3Options

    parts = _split_url(urls.objects)
    query = dict(parse_qsl(parts.query))
    secure = {"true": True, "false": False}.get(query.pop("secure", "true").lower())
    region = query.pop("region", None)
    is_s3 = parts.scheme == "s3" and parts.hostname and parts.username
    if not is_s3 or query or secure is None:
        raise ValueError(f"{_scheme(urls.objects)} is not a supported URL")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    port = _port(parts)
    return S3Options(
        endpoint=f"{host}:{port}" if port else host,
        access_key=unquote(str(parts.username)),
        secret_key=unquote(parts.password or ""),
        bucket=parts.path.strip("/"),
        secure=secure,
        region=region,
        timeout=urls.timeout,
        create_bucket=urls.create_bucket,
        public_url=urls.public_objects,
    )


def _open_vectors(
    urls: StoreUrls, database: Database, *, load: bool, read_only: bool
) -> VectorStore:
    if urls.vectors == "embedded:":
        file = find_database_file(urls.database)
        snapshots = None if file is None else file.with_name(f"{file.name}.vectors")
        exact = ExactVectorStore(database, None if read_only else snapshots)
        if load:
            models = SqlModelRegistry(database).list_models()
            exact.load([model.id for model in models if model.state is ModelState.ACTIVE])
        return exact
    _check_milvus(urls)
    from storage.vectors_milvus import MilvusVectorStore

    return MilvusVectorStore(urls.vectors, urls.milvus, timeout=urls.timeout)


def _check_milvus(urls: StoreUrls) -> None:
    """Raise ConfigurationError if the URL or the certificate cannot be used."""
    try:
        parts = _split_url(urls.vectors)
        port_missing = _port(parts) is None and ":" in parts.netloc
        if parts.scheme not in ("http", "https") or not parts.hostname or port_missing:
            raise ValueError(f"{_scheme(urls.vectors)} is not a supported URL")
    except ValueError as error:
        raise ConfigurationError(
            f"LOOKALIKE_VECTORS_URL cannot be used ({error}). Use embedded: or http://milvus:19530."
        ) from None
    try:
        if urls.milvus.ca_certificate:
            Path(urls.milvus.ca_certificate).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"LOOKALIKE_MILVUS_CA_CERTIFICATE cannot be read ({_reason(error)})."
            " Use the path of a PEM file."
        ) from None


def _split_url(url: str) -> SplitResult:
    """Parse the URL. Raises ValueError, whose message does not quote the URL."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("it cannot be parsed") from None


def _port(parts: SplitResult) -> int | None:
    """Return the port of a URL.

    Raises ValueError; its message does not quote the invalid port, which may be a password.
    """
    try:
        return parts.port
    except ValueError:
        raise ValueError("its port is not a number") from None


def _reason(error: Exception) -> str:
    """Return the message of an error, without the number of an OSError."""
    return str((isinstance(error, OSError) and error.strerror) or error)


def _scheme(url: str) -> str:
    """Return the scheme of a URL, which unlike the rest cannot contain a password."""
    return url.split(":", 1)[0] + ":…"
