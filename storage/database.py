"""The database connection: SQLite or MySQL by URL, short read and write transactions, errors as StoreUnavailable."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from storage.protocols import StoreUnavailable

BUSY_TIMEOUT = 10.0  # seconds a SQLite writer waits for another process's transaction


class now(FunctionElement[int]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock in milliseconds since 1970, UTC."""

    inherit_cache = True
    type = sa.BigInteger()


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class Database:
    """One engine. ``read`` and ``write`` give a connection inside a transaction; ``write`` commits at the end of its block."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self._writer = threading.RLock()
        if self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine = sa.create_engine(
            self.url,
            pool_size=8,
            max_overflow=120,
            connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
            poolclass=sa.pool.QueuePool,
            json_serializer=partial(json.dumps, ensure_ascii=False),  # SQLite compares keys as they are written
        )
        sa.event.listen(self.engine, "connect", _configure_sqlite)
        sa.event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self._transaction({}) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """SQLite has one writer at a time: threads queue here fairly instead of polling its file lock."""
        with self._writer, self._transaction({"lookalike_write": True}) as connection:
            yield connection

    @contextmanager
    def _transaction(self, options: dict[str, Any]) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, sa.exc.DatabaseError) as error:
            if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
                raise
            raise StoreUnavailable("metadata", str(getattr(error, "orig", None) or error)) from error

    def close(self) -> None:
        self.engine.dispose()


def _configure_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver's guess
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("lookalike_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
