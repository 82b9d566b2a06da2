"""A statement that takes too long also ends on the server."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import StoreUnavailable
from storage.mysql_engine import DatabaseOptions
from tests.support.service import eventually

SLOW = sa.text("SELECT SUM(SQRT(seq)) FROM seq_1_to_1000000000000")  # numbers that MariaDB makes


def count_running(database: Database) -> int:
    statements = sa.text(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%FROM seq_1_to_%'"
        " AND id <> CONNECTION_ID()"
    )
    with database.read() as connection:
        return connection.scalar(statements) or 0


def test_a_statement_ends_on_the_server_when_its_client_gives_up(mysql_database: Database) -> None:
    url = mysql_database.url.render_as_string(hide_password=False)
    with closing(Database(url, DatabaseOptions(timeout=1.0))) as impatient:
        with pytest.raises(StoreUnavailable), impatient.read() as connection:
            connection.execute(SLOW)
        assert eventually(lambda: count_running(mysql_database) == 0)


def test_a_change_of_the_schema_takes_as_long_as_it_needs(mysql_database: Database) -> None:
    with mysql_database.change_schema() as connection:
        assert connection.scalar(sa.text("SELECT @@SESSION.max_statement_time")) == 0
