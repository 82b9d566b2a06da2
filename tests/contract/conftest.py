"""Every backend of each storage protocol, fakes included; the contract tests run on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.objects_local import LocalObjectStore
from storage.objects_s3 import S3ObjectStore, S3Options
from storage.protocols import MetadataStore, ModelRegistry, ObjectStore, VectorStore
from storage.store_urls import MilvusOptions
from storage.vectors_exact import ExactVectorStore
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.memory_stores import (
    MemoryMetadataStore,
    MemoryModelRegistry,
    MemoryObjectStore,
    MemoryTables,
    MemoryVectorStore,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty embedded database with the newest schema."""
    database = Database(f"sqlite:///{tmp_path}/metadata.db")
    SqlMetadataStore(database).upgrade_schema()
    yield database
    database.close()


@pytest.fixture
def mysql_url() -> Iterator[str]:
    """Create an empty database for this test on the server; yield its URL."""
    server = sa.create_engine(fleet.url_of("mariadb"))
    name = f"test_{uuid4().hex}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    yield server.url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name}"))
    server.dispose()


@pytest.fixture
def mysql_database(mysql_url: str) -> Iterator[Database]:
    """An empty database on the server, with the newest schema."""
    database = Database(mysql_url)
    SqlMetadataStore(database).upgrade_schema()
    yield database
    database.close()


def _open_sql(request: pytest.FixtureRequest) -> Database:
    name = "database" if request.param == "sqlite" else "mysql_database"
    opened: Database = request.getfixturevalue(name)
    return opened


@pytest.fixture(params=["sqlite", "mysql"])
def sql(request: pytest.FixtureRequest) -> Database:
    """SQLite and MySQL in turn, with the newest schema."""
    return _open_sql(request)


@pytest.fixture(params=["memory", "sqlite", "mysql"])
def metadata_backend(request: pytest.FixtureRequest) -> MemoryTables | Database:
    """The backend that a metadata store and its model registry share."""
    return MemoryTables() if request.param == "memory" else _open_sql(request)


@pytest.fixture
def metadata(metadata_backend: MemoryTables | Database) -> MetadataStore:
    if isinstance(metadata_backend, MemoryTables):
        return MemoryMetadataStore(metadata_backend)
    return SqlMetadataStore(metadata_backend)


@pytest.fixture
def registry(metadata_backend: MemoryTables | Database) -> ModelRegistry:
    if isinstance(metadata_backend, MemoryTables):
        return MemoryModelRegistry(metadata_backend)
    return SqlModelRegistry(metadata_backend)


@pytest.fixture
def s3() -> Iterator[S3ObjectStore]:
    """An S3 store on a bucket that belongs to this test."""
    store = S3ObjectStore(s3_options(fleet.url_of("seaweedfs")))
    store.prepare()
    yield store
    for found in list(store.list("")):
        store.delete(found.key)
    store._client.remove_bucket(bucket_name=store._options.bucket)
    store.close()


@pytest.fixture(params=["memory", "local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    if request.param == "local":
        return LocalObjectStore(tmp_path / "objects")
    store: ObjectStore = request.getfixturevalue("s3")
    return store


def s3_options(url: str) -> S3Options:
    """Return options for a new bucket that belongs to this test."""
    parsed = sa.make_url(url.replace("s3://", "mysql://"))
    return S3Options(
        endpoint=f"{parsed.host}:{parsed.port}",
        access_key=parsed.username or "",
        secret_key=parsed.password or "",
        bucket=f"test-{uuid4().hex}",
        secure=False,
    )


@pytest.fixture(params=["memory", "exact", "milvus"])
def vectors(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    if request.param == "memory":
        yield MemoryVectorStore()
        return
    if request.param == "exact":
        exact = ExactVectorStore(request.getfixturevalue("database"))
        yield exact
        exact.close()
        return
    store = MilvusVectorStore(fleet.url_of("milvus"), MilvusOptions(prefix=f"test_{uuid4().hex}"))
    yield store
    for version in store.versions():
        store.drop_version(version)
    store.close()
