"""Upgrades the schema of a database with Alembic.

The migrations are found in a checkout or in an installed package.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.database import Database

_CHECKOUT = Path(__file__).parent.parent / "alembic"
# The wheel packs the folder here: at the top level it would clash with the library alembic.
_INSTALLED = Path(__file__).parent / "alembic"


def config(database: Database) -> Config:
    """Return Alembic's configuration for that database."""
    alembic_config = Config()
    alembic_config.set_main_option(
        "script_location", str(_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT)
    )
    alembic_config.attributes["database"] = database
    return alembic_config


def is_newest(database: Database) -> bool:
    """Return whether the schema is that of this program; one query."""
    newest = ScriptDirectory.from_config(config(database)).get_current_head()
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision() == newest


def is_unknown(database: Database) -> bool:
    """Return whether this program does not know the schema, because it is newer."""
    known = {
        script.revision for script in ScriptDirectory.from_config(config(database)).walk_revisions()
    }
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision() not in known | {None}


def upgrade(database: Database) -> None:
    """Run the missing schema migrations; one query if the database is up to date."""
    if not is_newest(database):
        command.upgrade(config(database), "head")
