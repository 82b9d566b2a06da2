"""Schema upgrades that are killed, cut off, held up or run twice end with the declared schema."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.migration import MigrationContext
from pymysql.constants import COMMAND

from storage import database as database_module
from storage import schema_upgrade
from storage.database import Database
from storage.errors import StoreUnavailable
from storage.metadata import SqlModelRegistry
from storage.mysql_engine import DatabaseOptions
from storage.records import LOOK
from tests.support.schemas import UpgradeProcess, differences, is_change
from tests.support.service import eventually


def fill_0001(database: Database) -> None:
    """Create the first schema, with an active model and a vector."""
    command.upgrade(schema_upgrade.config(database), "0001")
    with database.write() as connection:
        model = "INSERT INTO model_versions (id, state, created_at) VALUES ('old', 'active', 1)"
        connection.execute(sa.text(model))
        vector = (
            "INSERT INTO vectors"
            " (model_version, master_id, collection_id, vector, attributes, revision)"
            " VALUES ('old', :id, :id, :id, '{}', 3)"
        )
        connection.execute(sa.text(vector), {"id": bytes(16)})


def check_newest(database: Database, *, filled: bool) -> None:
    assert schema_upgrade.is_newest(database)
    assert differences(database) == []
    assert SqlModelRegistry(database).find_active(LOOK) == ("old" if filled else None)
    with database.read() as connection:
        parts = connection.execute(sa.text("SELECT part, revision FROM vectors")).all()
    assert [tuple(row) for row in parts] == ([(0, 3)] if filled else [])


def snapshot(database: Database) -> list[tuple[str, set[str], set[str | None]]]:
    """Return the columns and the indexes of all tables, and the revision."""
    with schema_upgrade.lock_schema(database) as connection:  # waits for changes that go on
        schema = sa.inspect(connection)
        revision = MigrationContext.configure(connection).get_current_revision()
        described = [
            (
                table,
                {f"{column['name']} {column['type']!r}" for column in schema.get_columns(table)},
                {index["name"] for index in schema.get_indexes(table)},
            )
            for table in sorted(schema.get_table_names())
        ]
    return [(str(revision), set(), set()), *described]


def upgrade_and_lose(database: Database, skipped: int) -> bool:
    """Upgrade, and lose the connection during a change, whose answer never arrives.

    ``skipped`` changes are made before. Returns whether the upgrade has ended.
    """
    number = itertools.count()

    def lose(connection: object, cursor: Any, statement: str, *_: object) -> None:
        if is_change(statement) and next(number) == skipped:
            cursor.connection._execute_command(COMMAND.COM_QUERY, statement)
            cursor.connection._force_close()

    sa.event.listen(sa.Engine, "before_cursor_execute", lose)
    try:
        schema_upgrade.upgrade(database)
    except StoreUnavailable:
        return False
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", lose)
    return True


@pytest.fixture
def mysql(mysql_url: str) -> Iterator[Database]:
    """An empty database on the server, without a schema."""
    with closing(Database(mysql_url, DatabaseOptions(timeout=1.0))) as database:
        yield database


@pytest.mark.parametrize("filled", [False, True])
def test_an_upgrade_killed_after_every_change_on_a_server_goes_on(
    mysql: Database, mysql_url: str, filled: bool
) -> None:
    if filled:
        fill_0001(mysql)
    number, before = 1, snapshot(mysql)
    states = 0
    while not UpgradeProcess(mysql_url, killed_after=number).wait():
        after = snapshot(mysql)
        # A change of rows that is repeated leaves the schema as it was: kill behind it, too.
        number = number + 1 if after == before else 1
        states += after != before
        before = after
    assert states > 12
    check_newest(mysql, filled=filled)


def test_an_upgrade_killed_after_any_change_on_sqlite_leaves_the_old_schema(
    tmp_path: Path,
) -> None:
    path = tmp_path / "old.db"
    with closing(Database(f"sqlite:///{path}")) as old:
        fill_0001(old)
    for number in itertools.count(1):
        again = tmp_path / f"{number}.db"
        shutil.copy(path, again)
        ended = UpgradeProcess(f"sqlite:///{again}", killed_after=number).wait()
        with closing(Database(f"sqlite:///{again}")) as database:
            if not ended:
                with database.read() as connection:
                    revision = sa.text("SELECT version_num FROM alembic_version")
                    assert connection.scalar(revision) == "0001"
                schema_upgrade.upgrade(database)
            check_newest(database, filled=True)
        if ended:
            break
    assert number > 12


@pytest.mark.parametrize("filled", [False, True])
def test_an_upgrade_whose_connection_is_lost_during_every_change_goes_on(
    mysql: Database, filled: bool
) -> None:
    """The server gets each statement and makes the change, but the answer is lost."""
    if filled:
        fill_0001(mysql)

    skipped, before, states = 0, snapshot(mysql), 0
    while not upgrade_and_lose(mysql, skipped):
        after = snapshot(mysql)
        skipped = skipped + 1 if after == before else 0
        states += after != before
        before = after
    assert states > 12
    check_newest(mysql, filled=filled)


@pytest.mark.parametrize("backend", ["sqlite", "mysql"])
def test_upgrades_of_one_database_at_the_same_time_all_succeed(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    if backend == "mysql":
        url = request.getfixturevalue("mysql_url")
    upgrades = [UpgradeProcess(url) for _ in range(4)]
    assert all(upgrade.wait() for upgrade in upgrades)
    with closing(Database(url)) as database:
        check_newest(database, filled=False)


class Lines(logging.Handler):
    """What the upgrade logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def count(self, text: str) -> int:
        return sum(text in message for message in self.messages)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    handler = Lines()
    logger = logging.getLogger("lookalike.schema")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return handler


def test_an_upgrade_outlasts_a_lock_that_is_held_longer_than_the_timeout_of_requests(
    mysql: Database, mysql_url: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump holds the lock. Requests, which queue behind an upgrade that waits, do not fail."""
    monkeypatch.setattr(schema_upgrade, "LOCK_WAIT", 1)
    fill_0001(mysql)
    models = sa.text("SELECT id FROM model_versions")
    with closing(Database(mysql_url)) as other, other.read() as dump, ThreadPoolExecutor(1) as pool:
        dump.execute(models).all()
        upgrading = pool.submit(schema_upgrade.upgrade, mysql)
        for times in (1, 2):
            assert eventually(lambda times=times: lines.count("another program's lock") >= times)
            with other.read() as request:
                request.execute(models).all()
        assert not upgrading.done()
        dump.rollback()
        upgrading.result(60)
    check_newest(mysql, filled=True)
    assert lines.count("schema 0003, step 1 of 5: add the column model_versions.only_active")


def test_a_second_upgrade_waits_for_the_first_and_says_so(mysql: Database, lines: Lines) -> None:
    with schema_upgrade.lock_schema(mysql) as first:
        holder = first.scalar(sa.text("SELECT CONNECTION_ID()"))
        with ThreadPoolExecutor(1) as pool:
            upgrading = pool.submit(schema_upgrade.upgrade, mysql)
            assert eventually(lambda: lines.count(f"on connection {holder} of the server") == 1)
            assert not upgrading.done()
            first.execute(sa.text("DO RELEASE_ALL_LOCKS()"))
            upgrading.result(60)
    check_newest(mysql, filled=False)


def test_an_upgrade_of_sqlite_waits_for_another_writer_and_says_so(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.05)
    url = f"sqlite:///{tmp_path}/a.db"
    with closing(Database(url)) as writer, closing(Database(url)) as database:
        fill_0001(database)
        with ThreadPoolExecutor(1) as pool:
            with writer.write():
                upgrading = pool.submit(schema_upgrade.upgrade, database)
                assert eventually(lambda: lines.count("waiting for another process") > 1)
            upgrading.result(60)
        check_newest(database, filled=True)


def test_upgrades_of_two_databases_of_a_server_do_not_wait_for_each_other(
    mysql: Database, shared_mysql: Database, lines: Lines
) -> None:
    with schema_upgrade.lock_schema(shared_mysql):
        schema_upgrade.upgrade(mysql)
    assert not lines.count("waiting")
    check_newest(mysql, filled=False)
