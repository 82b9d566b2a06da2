"""The engine for MySQL and MariaDB, which keeps the round trips of a transaction few."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

_FRESH = 1.0  # seconds for which an unused connection is not checked


@dataclass(frozen=True)
class DatabaseOptions:
    """How to connect to a database server."""

    pool: int = 32  # connections at most
    timeout: float = 10.0  # seconds to connect, to wait for a free connection and for each answer
    limit_answers: bool = True  # False lets each statement take as long as it needs
    recycle: int = 1800  # seconds after which a connection is replaced


def make_mysql_engine(
    url: sa.URL, options: DatabaseOptions, serialize: Callable[[Any], str]
) -> sa.Engine:
    """Make the engine; ``serialize`` writes JSON.

    Every connection must be used inside ``connection.begin()``: that ends its transaction, so the
    pool does not send another ROLLBACK.
    """
    answer = options.timeout if options.limit_answers else None
    engine = sa.create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_reset_on_return=None,
        pool_recycle=options.recycle,
        pool_size=options.pool,
        max_overflow=0,
        pool_timeout=options.timeout,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": min(3.0, options.timeout),
            "read_timeout": answer,
            "write_timeout": answer,
        },
        json_serializer=serialize,
    )
    sa.event.listen(engine, "checkin", _note_use)
    sa.event.listen(engine, "checkout", partial(_check_idle, engine.dialect))
    if answer is not None:
        sa.event.listen(engine, "connect", partial(_limit_statements, answer))
    return engine


def _note_use(connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _check_idle(dialect: sa.Dialect, connection: Any, record: Any, proxy: Any) -> None:
    """Let the pool replace a connection that has not been used for a while and does not answer.

    Checking each time, as ``pool_pre_ping`` does, would cost every transaction a round trip. What
    fails on a connection that broke within the last second was under way when the server stopped,
    or came just afterwards.
    """
    used = record.info.get("used")
    if used is None or time.monotonic() - used < _FRESH:
        return
    try:
        dialect.do_ping(connection)
    except Exception as error:
        # The pool connects again, and replaces its other connections before they are used.
        raise sa.exc.InvalidatePoolError from error


def _limit_statements(seconds: float, connection: Any, record: Any) -> None:
    """Let the server end a statement by itself: it would go on after the client gave up."""
    is_mariadb = "MariaDB" in connection.get_server_info()
    limit = f"max_statement_time = {seconds}"
    if not is_mariadb:  # MySQL has a limit for SELECT only, in milliseconds
        limit = f"max_execution_time = {int(seconds * 1000)}"
    with connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {limit}")
