"""Upgrades the schema of a database with Alembic, one process at a time.

The migrations are found in a checkout or in an installed package. Alembic is imported only for an
upgrade, because most starts find the newest schema.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from storage.database import Database
from storage.errors import StoreUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

LOCK_WAIT = 3  # seconds; requests queue behind a change that waits, and fail after ten
_log = logging.getLogger("lookalike.schema")
_CHECKOUT = Path(__file__).parent.parent / "alembic"
# The wheel packs the folder here: at the top level it would clash with the library alembic.
_INSTALLED = Path(__file__).parent / "alembic"


def config(database: Database) -> Config:
    """Return Alembic's configuration for that database."""
    from alembic.config import Config

    alembic_config = Config()
    alembic_config.set_main_option("script_location", str(_find_scripts()))
    alembic_config.attributes["database"] = database
    return alembic_config


def known_revisions() -> list[str]:
    """Return the revisions of this program, the newest one last: its scripts begin with them."""
    names = [path.name for path in _find_scripts().glob("versions/[0-9]*_*.py")]
    return sorted(name.partition("_")[0] for name in names)


def is_newest(database: Database) -> bool:
    """Return whether the schema is that of this program."""
    return _read_revision(database) == known_revisions()[-1]


def is_unknown(database: Database) -> bool:
    """Return whether this program does not know the schema, because it is newer."""
    return _read_revision(database) not in {None, *known_revisions()}


def upgrade(database: Database) -> None:
    """Run the missing schema migrations; two queries if the database is up to date."""
    if not is_newest(database):
        from alembic import command

        command.upgrade(config(database), "head")


def _find_scripts() -> Path:
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def _read_revision(database: Database) -> str | None:
    """Return the revision that Alembic has recorded; None in a database that has no schema."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(
            sa.text("SELECT version_num FROM alembic_version")
        ).scalar_one_or_none()


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
