"""The schema migrations create the schema of ``storage.tables``, and can be reverted."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import mysql

from storage import schema_upgrade
from storage.database import Database
from storage.metadata import SqlModelRegistry
from storage.tables import Base


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


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
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _differs})
        assert compare_metadata(context, Base.metadata) == []
    command.downgrade(schema_upgrade.config(database), "base")
    assert tables(database) == {"alembic_version"}
    command.upgrade(schema_upgrade.config(database), "head")
    assert tables(database) == set(Base.metadata.tables) | {"alembic_version"}
    database.close()


def _differs(
    context: object,
    inspected: object,
    declared: object,
    found: sa.types.TypeEngine[object],
    meant: object,
) -> bool | None:
    """Accept LONGTEXT for JSON, as in MariaDB; leave other types to Alembic."""
    return False if isinstance(meant, sa.JSON) and isinstance(found, mysql.LONGTEXT) else None


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
    assert (registry.find_active(), registry.register_active("new")) == ("old", "old")


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
    assert columns == {"id", "state", "only_active", "created_at"}
    assert SqlModelRegistry(sql).find_active() == "old"
