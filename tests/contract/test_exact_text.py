"""Names and identifiers that differ in case, accents or trailing spaces are different."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.protocols import MetadataStore, ModelRegistry
from storage.records import LOOK, NewMaster
from storage.tables import Base
from tests.support.memory_stores import MemoryMetadataStore, MemoryModelRegistry, MemoryTables

ALIKE = ["red", "red ", "red  ", "Red", "réd", "re\u0301d", "red\t", "red\u00a0", "😀", "😀 "]


@pytest.fixture(params=["memory", "sqlite", "latin1", "utf8mb4 COLLATE utf8mb4_unicode_ci"])
def backend(request: pytest.FixtureRequest) -> Iterator[MemoryTables | Database]:
    """Every backend, and databases on the server with other defaults."""
    if request.param == "memory":
        yield MemoryTables()
    elif request.param == "sqlite":
        yield request.getfixturevalue("database")
    else:
        database = request.getfixturevalue("mysql_of_charset")(request.param)
        with database.write() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        yield database


@pytest.fixture
def metadata(backend: MemoryTables | Database) -> MetadataStore:
    if isinstance(backend, MemoryTables):
        return MemoryMetadataStore(backend)
    return SqlMetadataStore(backend)


@pytest.fixture
def registry(backend: MemoryTables | Database) -> ModelRegistry:
    if isinstance(backend, MemoryTables):
        return MemoryModelRegistry(backend)
    return SqlModelRegistry(backend)


def test_collections_with_names_that_look_alike_are_different(metadata: MetadataStore) -> None:
    ids = {name: metadata.create_collection(name).id for name in ALIKE}
    found = {name: metadata.find_collection(name) for name in ALIKE}
    assert {name: each and each.id for name, each in found.items()} == ids
    assert metadata.delete_collection("red ")
    assert metadata.find_collection("red ") is None
    assert metadata.find_collection("red  ") is not None
    listed = [collection.name for collection, _ in metadata.list_collections()]
    assert listed == sorted(set(ALIKE) - {"red "})


def test_a_collection_is_found_only_by_its_exact_name(metadata: MetadataStore) -> None:
    collection = metadata.create_collection("red")
    new = NewMaster(bytes(32), 1, "image/jpeg", "jpg", 1, 1, "a.jpg", {})
    master = metadata.reserve_master(collection.id, new, "me", 60).master
    assert metadata.commit_stored(master.id, "me", [], 60) is not None
    assert metadata.find_by_hash("red", bytes(32)) is not None
    for name in ALIKE[1:]:
        assert metadata.find_collection(name) is None, name
        assert metadata.find_by_hash(name, bytes(32)) is None, name
        assert not metadata.delete_collection(name), name
        assert not metadata.empty_collection(name), name


def test_a_row_belongs_only_to_the_exact_owner_of_its_lease(metadata: MetadataStore) -> None:
    collection = metadata.create_collection("red")
    new = NewMaster(bytes(32), 1, "image/jpeg", "jpg", 1, 1, "a.jpg", {})
    master = metadata.reserve_master(collection.id, new, "red", 60).master
    for owner in ALIKE[1:]:
        assert not metadata.renew_reservation(master.id, owner, 60), owner
        assert metadata.commit_stored(master.id, owner, [], 60) is None, owner


def test_leases_with_names_and_owners_that_look_alike_are_different(
    metadata: MetadataStore,
) -> None:
    for name in ALIKE:
        assert metadata.acquire_lease(name, "red", 60), name
        metadata.release_lease(name, "Red")
        assert not metadata.acquire_lease(name, "red ", 60), name
    metadata.release_lease("red ", "red")
    assert [name for name in ALIKE if not metadata.is_leased(name)] == ["red "]


def test_models_spaces_and_replicas_that_look_alike_are_different(
    registry: ModelRegistry,
) -> None:
    registry.register_active("look", LOOK)
    for name in ALIKE:
        assert registry.register_active(f"{name}-model", name) == f"{name}-model"
    for name in ALIKE:
        assert registry.find_active(name) == f"{name}-model"
        registry.record_heartbeat(name, [], 60)
    assert {replica.id for replica in registry.list_replicas()} == set(ALIKE)


def test_embeddings_of_versions_that_look_alike_are_different(
    metadata: MetadataStore, registry: ModelRegistry
) -> None:
    registry.register_active("red", LOOK)
    registry.start_building("Red", LOOK)
    collection = metadata.create_collection("red")
    new = NewMaster(bytes(32), 1, "image/jpeg", "jpg", 1, 1, "a.jpg", {})
    master = metadata.reserve_master(collection.id, new, "me", 60).master
    assert metadata.commit_stored(master.id, "me", ["red", "Red"], 60) == ["red", "Red"]
    assert registry.count_embeddings("red") == registry.count_embeddings("Red") == {"pending": 1}
    assert registry.count_embeddings("red ") == registry.count_embeddings("RED") == {}


@pytest.mark.parametrize("default", ["latin1", "utf8mb4 COLLATE utf8mb4_unicode_ci"])
def test_no_column_has_the_collation_of_the_database(
    mysql_of_charset: Callable[[str], Database], default: str
) -> None:
    with mysql_of_charset(default).read() as connection:
        columns = connection.execute(
            sa.text(
                "SELECT table_name, column_name, collation_name FROM information_schema.columns"
                " WHERE table_schema = DATABASE() AND collation_name IS NOT NULL"
                " AND table_name <> 'alembic_version'"
            )
        ).all()
    # utf8mb4_bin is the one of JSON
    assert {row[2] for row in columns} == {"utf8mb4_nopad_bin", "utf8mb4_bin"}
