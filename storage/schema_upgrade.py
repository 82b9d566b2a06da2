"""Upgrades the schema of a database with Alembic, one process at a time.

The migrations are found in a checkout or in an installed package.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.database import Database
from storage.errors import StoreUnavailable
from storage.schema_steps import LOCK_WAIT

_log = logging.getLogger("lookalike.schema")
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


@contextmanager
def lock_schema(database: Database) -> Iterator[sa.Connection]:
    """Yield a connection that alone may change the schema.

    It waits for another upgrade to end, on a server even for one whose client is gone, and logs
    that. Raises StoreUnavailable.
    """
    with ExitStack() as ending:
        connection = _begin(ending, database)
        if not database.embedded:
            connection.execute(sa.text(f"SET SESSION lock_wait_timeout = {LOCK_WAIT}"))
            _acquire_lock(connection, database.url.database or "")
        yield connection


def _begin(ending: ExitStack, database: Database) -> sa.Connection:
    """Begin to change the schema; on SQLite, once no other process writes to the database."""
    while True:
        try:
            return ending.enter_context(database.change_schema())
        except StoreUnavailable as error:
            if not (database.embedded and "database is locked" in str(error)):
                raise
            _log.warning("waiting for another process, which writes to the database")


def _acquire_lock(connection: sa.Connection, database: str) -> None:
    """Acquire a lock of the server, which ends with the connection."""
    # Names of locks belong to the whole server and have at most 64 characters.
    name = {"name": "lookalike-schema-" + hashlib.sha256(database.encode()).hexdigest()[:32]}
    acquire, holder = (
        sa.text("SELECT GET_LOCK(:name, :wait)"),
        sa.text("SELECT IS_USED_LOCK(:name)"),
    )
    wait = 0
    while connection.scalar(acquire, name | {"wait": wait}) != 1:
        wait = 30  # seconds between two lines
        _log.warning(
            "waiting for another upgrade of the schema, on connection %s of the server",
            connection.scalar(holder, name),
        )
