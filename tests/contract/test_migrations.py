"""The migrations lead to the schema of storage.tables and back."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage import migrations
from storage.database import Database
from storage.tables import Base


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_up_gives_the_declared_schema_and_down_takes_it_away(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    migrations.upgrade(database)
    migrations.upgrade(database)
    assert tables(database) == set(Base.metadata.tables) | {"alembic_version"}
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    command.downgrade(migrations.config(database), "base")
    assert tables(database) == {"alembic_version"}
    command.upgrade(migrations.config(database), "head")
    assert tables(database) == set(Base.metadata.tables) | {"alembic_version"}
    database.close()
