"""Every backend of each storage protocol; a contract suite runs on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.metadata import SqlMetadataStore
from storage.objects_local import LocalObjectStore
from storage.protocols import MetadataStore, ObjectStore, VectorStore
from storage.vectors_exact import ExactVectorStore


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/metadata.db")
    SqlMetadataStore(database).migrate()
    yield database
    database.close()


@pytest.fixture(params=["sqlite"])
def metadata(request: pytest.FixtureRequest, database: Database) -> MetadataStore:
    return SqlMetadataStore(database)


@pytest.fixture(params=["local"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return LocalObjectStore(tmp_path / "objects")


@pytest.fixture(params=["exact"])
def vectors(request: pytest.FixtureRequest, database: Database) -> Iterator[VectorStore]:
    store = ExactVectorStore(database)
    yield store
    store.close()
