"""Compares databases with the declared schema, and upgrades them in processes that get killed."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import mysql

from storage import schema_upgrade
from storage.database import Database
from storage.tables import Base
from tests.support.processes import forks

_CHANGES = ("ALTER", "CREATE", "DROP", "INSERT", "UPDATE", "DELETE")


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(sa.inspect(connection).get_table_names())


def differences(database: Database) -> list[object]:
    """Return what Alembic would change to get the schema of ``storage.tables``."""
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": _differs})
        return list(compare_metadata(context, Base.metadata))


def _differs(
    context: object,
    inspected: object,
    declared: object,
    found: sa.types.TypeEngine[object],
    meant: object,
) -> bool | None:
    """Accept LONGTEXT for JSON, as in MariaDB; leave other types to Alembic."""
    return False if isinstance(meant, sa.JSON) and isinstance(found, mysql.LONGTEXT) else None


def is_change(statement: str) -> bool:
    """Return whether the statement changes the schema or rows."""
    return statement.lstrip().startswith(_CHANGES)


class UpgradeProcess:
    """An upgrade in a process of its own, which kills itself after so many changes."""

    def __init__(self, url: str, killed_after: int | None = None) -> None:
        self._process = forks.Process(target=_upgrade, args=(url, killed_after), daemon=True)
        self._process.start()

    def wait(self) -> bool:
        """Return True if the upgrade has ended, or False if the process has killed itself."""
        self._process.join(60)
        assert self._process.exitcode in (0, -signal.SIGKILL), self._process.exitcode
        return self._process.exitcode == 0


def _upgrade(url: str, killed_after: int | None) -> None:
    left = killed_after or 0

    def count(connection: object, cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        left -= is_change(statement)
        if left == 0 and is_change(statement):
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "after_cursor_execute", count)
    with closing(Database(url)) as database:
        schema_upgrade.upgrade(database)
