"""Every backend of each storage protocol, fakes included; the contract tests run on all of them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
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
from storage.tables import Base
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
from tests.support.vector_records import VERSION, empty_milvus


@pytest.fixture(scope="session")
def upgraded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an empty embedded database with the newest schema, for tests to copy."""
    path = tmp_path_factory.mktemp("database") / "metadata.db"
    database = Database(f"sqlite:///{path}")
    SqlMetadataStore(database).upgrade_schema()
    database.close()
    return path


@pytest.fixture
def database(upgraded_file: Path, tmp_path: Path) -> Iterator[Database]:
    """An empty embedded database with the newest schema."""
    shutil.copy(upgraded_file, tmp_path / "metadata.db")
    database = Database(f"sqlite:///{tmp_path}/metadata.db")
    yield database
    database.close()


@contextmanager
def _new_mysql_url(charset: str = "utf8mb4") -> Iterator[str]:
    """Create an empty database on the server; yield its URL."""
    server = sa.create_engine(fleet.url_of("mariadb"))
    name = f"test_{uuid4().hex}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET {charset}"))
    yield server.url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name}"))
    server.dispose()


@pytest.fixture
def mysql_url() -> Iterator[str]:
    """Create an empty database for this test on the server; yield its URL."""
    with _new_mysql_url() as url:
        yield url


@pytest.fixture(scope="session")
def shared_mysql() -> Iterator[Database]:
    """A database on the server with the newest schema, which takes a second to create."""
    with _new_mysql_url() as url, closing(Database(url)) as database:
        SqlMetadataStore(database).upgrade_schema()
        yield database


@pytest.fixture
def mysql_database(shared_mysql: Database) -> Iterator[Database]:
    """An empty database on the server, with the newest schema."""
    with shared_mysql.write() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    database = Database(shared_mysql.url.render_as_string(hide_password=False))
    yield database
    database.close()


@pytest.fixture(scope="session")
def mysql_of_charset() -> Iterator[Callable[[str], Database]]:
    """Return a database on the server whose default is that character set, with the schema."""
    with ExitStack() as ending:

        @functools.cache
        def make(charset: str) -> Database:
            url = ending.enter_context(_new_mysql_url(charset))
            database = ending.enter_context(closing(Database(url)))
            SqlMetadataStore(database).upgrade_schema()
            return database

        yield make


@pytest.fixture(params=["sqlite", "mysql"])
def sql(request: pytest.FixtureRequest) -> Iterator[Database]:
    """SQLite and MySQL in turn, with the newest schema, which the test may change."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    with closing(Database(request.getfixturevalue("mysql_url"))) as database:
        SqlMetadataStore(database).upgrade_schema()
        yield database


@pytest.fixture(params=["memory", "sqlite", "mysql"])
def metadata_backend(request: pytest.FixtureRequest) -> MemoryTables | Database:
    """The backend that a metadata store and its model registry share."""
    if request.param == "memory":
        return MemoryTables()
    name = "database" if request.param == "sqlite" else "mysql_database"
    opened: Database = request.getfixturevalue(name)
    return opened


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


@pytest.fixture(scope="session")
def milvus_options() -> Iterator[MilvusOptions]:
    """The prefix of this process on Milvus, whose tests share one loaded collection."""
    options = MilvusOptions(prefix=f"test_{uuid4().hex}")
    yield options
    with closing(MilvusVectorStore(fleet.url_of("milvus"), options)) as store:
        for version in store.versions():
            store.drop_version(version)


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
    options = request.getfixturevalue("milvus_options")
    with closing(MilvusVectorStore(fleet.url_of("milvus"), options)) as store:
        empty_milvus(store, VERSION)
        yield store
