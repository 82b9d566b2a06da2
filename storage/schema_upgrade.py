"""Brings a database to the newest schema with Alembic's migrations, from a checkout or from an installed package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.database import Database

_CHECKOUT = Path(__file__).parent.parent / "alembic"
_INSTALLED = (
    Path(__file__).parent / "alembic"
)  # where the wheel packs the folder; beside it lies the library of that name


def config(database: Database) -> Config:
    """Alembic's configuration for that database."""
    alembic_config = Config()
    alembic_config.set_main_option(
        "script_location", str(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)
    )
    alembic_config.attributes["database"] = database
    return alembic_config


def is_newest(database: Database) -> bool:
    """Whether the schema is the one that this program was written for; one query."""
    newest = ScriptDirectory.from_config(config(database)).get_current_head()
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision() == newest


def is_unknown(database: Database) -> bool:
    """Whether the schema is one that this program has never heard of: a newer one's."""
    known = {
        script.revision for script in ScriptDirectory.from_config(config(database)).walk_revisions()
    }
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision() not in known | {None}


def upgrade(database: Database) -> None:
    """Run what is missing; a database that is up to date costs one query."""
    if not is_newest(database):
        command.upgrade(config(database), "head")
