"""The schema migrations create the schema of ``storage.tables``, and can be reverted."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from numpy.typing import NDArray

from storage import schema_upgrade
from storage.database import Database
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.records import LOOK, ModelState
from storage.tables import Base
from storage.vectors_exact import ExactVectorStore
from tests.support.schemas import differences, tables
from tests.support.vector_records import SHOP, several, unit


def test_the_revisions_are_those_that_alembic_finds(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    scripts = ScriptDirectory.from_config(schema_upgrade.config(database))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert schema_upgrade.known_revisions() == revisions[::-1]
    assert scripts.get_current_head() == revisions[0]
    database.close()


@pytest.mark.parametrize("backend", ["sqlite", "mysql"])
def test_an_upgrade_creates_the_declared_schema_and_a_downgrade_removes_it(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = Database(
        f"sqlite:///{tmp_path}/a.db"
        if backend == "sqlite"
        else request.getfixturevalue("mysql_url")
    )
    schema_upgrade.upgrade(database)
    schema_upgrade.upgrade(database)
    assert tables(database) == set(Base.metadata.tables) | {"alembic_version"}
    assert differences(database) == []
    command.downgrade(schema_upgrade.config(database), "base")
    assert tables(database) == {"alembic_version"}
    command.upgrade(schema_upgrade.config(database), "head")
    assert tables(database) == set(Base.metadata.tables) | {"alembic_version"}
    database.close()


def test_the_active_model_of_an_older_schema_stays_active(sql: Database) -> None:
    command.downgrade(schema_upgrade.config(sql), "0002")
    with sql.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO model_versions (id, state, created_at) VALUES ('old', 'active', 1)"
            )
        )
    schema_upgrade.upgrade(sql)
    registry = SqlModelRegistry(sql)
    assert (registry.find_active(LOOK), registry.register_active("new", LOOK)) == ("old", "old")


def test_the_models_of_an_older_schema_survive_the_removal_of_unused_columns(sql: Database) -> None:
    command.downgrade(schema_upgrade.config(sql), "0003")
    with sql.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO model_versions (id, state, only_active, created_at, milvus_collection)"
                " VALUES ('old', 'active', true, 1, 'unused')"
            )
        )
    schema_upgrade.upgrade(sql)
    with sql.read() as connection:
        columns = {each["name"] for each in sa.inspect(connection).get_columns("model_versions")}
    assert columns == {"id", "state", "space", "active_space", "created_at"}
    assert SqlModelRegistry(sql).find_active(LOOK) == "old"


_OLD_NAMES = ["sofa", "Sofá 😀", "e\u0301", "a \u00a0"]


def test_text_of_an_older_schema_is_kept_and_compared_by_code_point(mysql_url: str) -> None:
    database = Database(mysql_url)
    with database.change_schema() as connection:
        connection.execute(sa.text("ALTER DATABASE CHARACTER SET latin1"))
    command.upgrade(schema_upgrade.config(database), "0005")
    with database.change_schema() as connection:
        for column in ("name VARCHAR(63) {} NOT NULL", "live_name VARCHAR(63) {} NULL"):
            old = column.format("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            connection.execute(sa.text(f"ALTER TABLE collections MODIFY COLUMN {old}"))
        for number, name in enumerate(_OLD_NAMES):
            row = {"id": number.to_bytes(16), "name": name}
            insert = "INSERT INTO collections VALUES (:id, :name, :name, 'live', 1)"
            connection.execute(sa.text(insert), row)
    schema_upgrade.upgrade(database)
    assert differences(database) == []
    metadata = SqlMetadataStore(database)
    for name in _OLD_NAMES:
        found = metadata.find_collection(name)
        assert found is not None
        assert found.name == name
        assert metadata.find_collection(f"{name} ") is None
    database.close()


_OLD_MODEL = (
    "INSERT INTO model_versions (id, state, only_active, created_at) VALUES (:id, :s, :a, 1)"
)
_OLD_VECTOR = (
    "INSERT INTO vectors (model_version, master_id, collection_id, vector, attributes, revision)"
    " VALUES ('old', :master, :collection, :vector, :attributes, 3)"
)


def fill_0004(database: Database) -> dict[UUID, NDArray[np.float32]]:
    """Downgrade to schema 0004 and add models and vectors; return the vectors by master."""
    command.downgrade(schema_upgrade.config(database), "0004")
    vectors = {UUID(int=number): unit(number) for number in range(1, 6)}
    with database.write() as connection:
        for id_, state in (("old", "active"), ("older", "previous"), ("new", "building")):
            active = True if state == "active" else None
            connection.execute(sa.text(_OLD_MODEL), {"id": id_, "s": state, "a": active})
        for id_, vector in vectors.items():
            row = {"master": id_.bytes, "collection": SHOP.bytes, "vector": vector.tobytes()}
            connection.execute(sa.text(_OLD_VECTOR), row | {"attributes": '{"n": 1}'})
    return vectors


def check_0005(database: Database, vectors: dict[UUID, NDArray[np.float32]]) -> None:
    models = SqlModelRegistry(database).list_models()
    assert [(model.id, model.space, model.state) for model in models] == [
        ("old", LOOK, ModelState.ACTIVE),
        ("older", LOOK, ModelState.PREVIOUS),
        ("new", LOOK, ModelState.BUILDING),
    ]
    assert SqlModelRegistry(database).register_active("other", LOOK) == "old"
    store = ExactVectorStore(database)
    found = store.fetch_vectors("old", list(vectors))
    assert {id_: one.parts[0].vector.tobytes() for id_, one in found.items()} == {
        id_: vector.tobytes() for id_, vector in vectors.items()
    }
    assert {(len(r.parts), r.parts[0].box, r.revision) for r in found.values()} == {(1, None, 3)}
    assert [hit.master_id for hit in store.search("old", SHOP, unit(3), 1)] == [UUID(int=3)]
    store.upsert("old", [several(unit(8), unit(9), boxes=((1, 2, 3, 4), None))])
    assert store.count("old") == len(vectors) + 1
    store.close()


def test_models_and_vectors_of_0004_belong_to_look_and_have_one_part(sql: Database) -> None:
    vectors = fill_0004(sql)
    schema_upgrade.upgrade(sql)
    check_0005(sql, vectors)


def test_a_downgrade_to_0004_keeps_the_first_parts_of_look(sql: Database) -> None:
    vectors = fill_0004(sql)
    schema_upgrade.upgrade(sql)
    check_0005(sql, vectors)
    registry = SqlModelRegistry(sql)
    registry.start_building("words-1", "words")
    command.downgrade(schema_upgrade.config(sql), "0004")
    with sql.read() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM vectors")) == len(vectors) + 1
        models = connection.execute(sa.text("SELECT id, only_active FROM model_versions")).all()
    assert {(row[0], bool(row[1])) for row in models} == {
        ("old", True),
        ("older", False),
        ("new", False),
    }
