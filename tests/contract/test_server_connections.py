"""The round trips of a transaction on the database server, and connections that break."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import StoreUnavailable
from tests.support.sent_statements import record_statements

ONE = sa.text("SELECT 1")


@pytest.fixture
def sent(mysql_database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are sent once a connection is open."""
    run(mysql_database, "read", ONE)
    return record_statements(monkeypatch)


def run(database: Database, kind: str, statement: sa.TextClause) -> Any:
    with getattr(database, kind)() as connection:
        result = connection.execute(statement)
        return result.scalar() if result.returns_rows else None


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_transaction_sends_its_statements_and_one_commit(
    mysql_database: Database, sent: list[str], kind: str
) -> None:
    run(mysql_database, kind, ONE)
    assert sent == ["SELECT 1", "COMMIT"]


def test_a_transaction_that_fails_is_rolled_back_before_the_next_one(
    mysql_database: Database, sent: list[str]
) -> None:
    wrong = "SELECT missing FROM collections"
    with pytest.raises(StoreUnavailable):
        run(mysql_database, "write", sa.text(wrong))
    assert sent == [wrong, "ROLLBACK"]


def kill_connection(database: Database) -> None:
    """Let the server close the connection that the pool gives next."""
    number = run(database, "read", sa.text("SELECT CONNECTION_ID()"))
    other = Database(database.url.render_as_string(hide_password=False))
    run(other, "write", sa.text(f"KILL {number}"))
    other.close()


def test_an_idle_connection_that_the_server_closed_is_replaced(
    mysql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_connection(mysql_database)
    monkeypatch.setattr("storage.mysql_engine._FRESH", 0.0)
    assert run(mysql_database, "read", ONE) == 1


def test_a_connection_that_breaks_while_it_is_busy_fails_once(mysql_database: Database) -> None:
    kill_connection(mysql_database)
    with pytest.raises(StoreUnavailable):
        run(mysql_database, "read", ONE)
    assert run(mysql_database, "read", ONE) == 1
