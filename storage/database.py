"""Connects to the metadata database: SQLite or MySQL, by URL.

Transactions are short. A failure of the database is raised as StoreUnavailable.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial, wraps
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import sqlalchemy as sa
import stamina
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from storage.errors import StoreFull, StoreUnavailable
from storage.group_commit import GroupCommit
from storage.mysql_engine import DatabaseOptions, make_mysql_engine
from storage.private_files import create_privately, make_private_directory
from storage.records import FARTHEST

BUSY_TIMEOUT = 10.0  # seconds a SQLite writer waits for another process's transaction


class now(FunctionElement[int]):  # noqa: N801 - it is named like a SQL function
    """The database's clock in milliseconds since 1970, UTC."""

    inherit_cache = True
    type = sa.BigInteger()


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now, "mysql")
def _now_mysql(element: now, compiler: Any, **kw: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"


def past(moment: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a moment has passed.

    It also holds for a moment farther ahead than any lease or delay reaches, because the clock was
    then set back.
    """
    return sa.or_(moment <= now(), moment > now() + int(FARTHEST * 1000))


class TransactionLost(StoreUnavailable):
    """The transaction was rolled back (deadlock, lock wait timeout), so a retry is safe."""


class Database:
    """A database engine. ``read`` and ``write`` give a connection inside a transaction.

    Both raise StoreUnavailable if the database fails.
    """

    def __init__(self, url: str, options: DatabaseOptions | None = None) -> None:
        self.url = sa.make_url(url)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self._mine = threading.local()  # callbacks of the block that a thread is in
        # SQLite compares keys as they are written, so nothing is escaped.
        json_as_written = partial(json.dumps, ensure_ascii=False)
        if self.embedded:
            if self.url.database:
                path = Path(self.url.database)
                make_private_directory(path.parent)
                create_privately(path)  # SQLite gives its other files the same permissions
            self.engine = sa.create_engine(
                self.url,
                pool_size=8,
                max_overflow=-1,
                connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
                poolclass=sa.pool.QueuePool,
                json_serializer=json_as_written,
            )
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
            self.timeout = BUSY_TIMEOUT
            self._group: GroupCommit | None = GroupCommit(partial(_begin_writing, self.engine))
        else:
            self._group = None
            options = options or DatabaseOptions()
            self.timeout = options.timeout  # seconds
            self.engine = make_mysql_engine(self.url, options, json_as_written)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Yield a connection inside a read transaction.

        On SQLite, inside a ``write`` of the same thread, it sees what was written there.
        """
        joined = self._group.current if self._group else None
        if joined is not None:
            with _as_store_errors():
                yield joined
            return
        with self._transaction({}) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Yield a connection inside a write transaction, which is committed after the block.

        On SQLite, blocks that wait for one another share a transaction, and a block inside
        another one is a part of it; see ``GroupCommit``.
        """
        if self._group is not None:
            with _as_store_errors(), self._group.join() as connection:
                yield connection
            return
        callbacks: list[Callable[[], object]] = []
        with self._transaction({}) as connection:
            self._mine.callbacks = callbacks
            yield connection
        for callback in callbacks:
            callback()

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call back after the commit of the ``write`` block that this thread is in.

        On SQLite, callbacks run in the order of the commits. They do not run if the block is rolled
        back.
        """
        if self._group is not None:
            self._group.after_commit(callback)
        else:
            self._mine.callbacks.append(callback)

    @contextmanager
    def change_schema(self) -> Iterator[sa.Connection]:
        """Yield a connection for statements that change tables; they may take hours.

        SQLite commits all of them after the block. MySQL commits each of them at once.
        """
        if self.embedded:
            with self.write() as connection:
                yield connection
            return
        patient = Database(
            self.url.render_as_string(hide_password=False),
            DatabaseOptions(pool=1, limit_answers=False),
        )
        with (
            closing(patient),
            patient._transaction({"isolation_level": "AUTOCOMMIT"}) as connection,
        ):
            yield connection

    @contextmanager
    def _transaction(self, options: dict[str, Any]) -> Iterator[sa.Connection]:
        with (
            _as_store_errors(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        self.engine.dispose()


# Error codes of MySQL: deadlock, lock wait timeout, record changed since it was read.
_ROLLED_BACK = (1213, 1205, 1020)
# Error codes of MySQL: disk full, table full.
_FULL = (1021, 1114)


@contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError):
        raise
    except (sa.exc.DatabaseError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise _store_error(cause) from error
    except sqlite3.Error as error:  # of a savepoint
        raise _store_error(error) from error


def _store_error(cause: BaseException) -> StoreUnavailable:
    """Return the error of the store for one of the database's driver."""
    code = cause.args[0] if cause.args else None
    if code in _ROLLED_BACK:
        return TransactionLost("metadata", str(cause))
    if code in _FULL or getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreFull("metadata", str(cause))
    return StoreUnavailable("metadata", str(cause))


_ATTEMPTS = 4  # after the first one
_Store = TypeVar("_Store", bound=type)


def retry_lost_transactions(store: _Store) -> _Store:
    """Decorate a class so that its public methods are retried if their transaction is rolled back.

    Each public method must be a single transaction.
    """
    for name, method in list(vars(store).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(store, name, _retry_if_lost(method))
    return store


def _retry_if_lost(method: FunctionType) -> Callable[..., Any]:
    retry = stamina.retry(on=TransactionLost, attempts=_ATTEMPTS, wait_initial=0.01, wait_max=0.5)
    try_again = retry(method)

    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        try:  # the first attempt alone, because stamina takes longer than a short statement
            return method(*arguments, **named)
        except TransactionLost:
            return try_again(*arguments, **named)

    return call


def _configure_sqlite(connection: Any, record: Any) -> None:
    # The driver would guess when to begin a transaction; _begin_sqlite does it instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_writing(engine: sa.Engine) -> sa.Connection:
    connection = engine.connect().execution_options(lookalike_write=True)
    try:
        connection.begin()
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_sqlite(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("lookalike_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
