"""Write transactions of several threads on SQLite share a commit, and fail alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import StoreFull, StoreUnavailable
from storage.group_commit import GroupCommit

TABLES = (
    "CREATE TABLE numbers (number INTEGER PRIMARY KEY, text TEXT)",
    "CREATE TABLE children (of INTEGER REFERENCES numbers(number) DEFERRABLE INITIALLY DEFERRED)",
)


class Together:
    """Runs blocks in threads that all wait for one that holds the turn, in their order."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.commits = 0
        self._pool = ThreadPoolExecutor(8)
        sa.event.listen(database.engine, "commit", self._count)

    def _count(self, connection: sa.Connection) -> None:
        self.commits += 1

    def run(self, *blocks: Callable[[sa.Connection], object]) -> list[Future[object]]:
        """Run the blocks in one transaction; return their outcomes."""
        started, go_on = threading.Event(), threading.Event()

        def hold(connection: sa.Connection) -> None:
            started.set()
            go_on.wait(10)

        group = self.database._group
        assert group is not None
        first = self._pool.submit(self._write, hold)
        started.wait(10)
        others = []
        for number, block in enumerate(blocks, start=1):
            others.append(self._pool.submit(self._write, block))
            while group._waiting < number:
                threading.Event().wait(0.001)
        go_on.set()
        for each in (first, *others):
            each.exception(10)
        return others

    def _write(self, block: Callable[[sa.Connection], object]) -> object:
        with self.database.write() as connection:
            return block(connection)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/test.db")) as database:
        with database.write() as connection:
            for table in TABLES:
                connection.exec_driver_sql(table)
        yield database


@pytest.fixture
def together(database: Database) -> Together:
    return Together(database)


def insert(number: int) -> Callable[[sa.Connection], object]:
    return lambda connection: connection.exec_driver_sql(
        "INSERT INTO numbers VALUES (?, '')", (number,)
    )


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(sa.text("SELECT number FROM numbers ORDER BY number")))


def test_blocks_that_wait_share_one_commit(database: Database, together: Together) -> None:
    outcomes = together.run(*map(insert, range(6)))
    assert [outcome.exception() for outcome in outcomes] == [None] * 6
    assert numbers(database) == list(range(6))
    assert together.commits == 1 + 1  # and the read above


def test_a_lone_block_is_committed_when_it_returns(database: Database) -> None:
    with database.write() as connection:
        insert(1)(connection)
    with closing(Database(database.url.render_as_string())) as other:
        assert numbers(other) == [1]


def test_a_block_that_raises_is_rolled_back_alone(database: Database, together: Together) -> None:
    def fail(connection: sa.Connection) -> None:
        insert(2)(connection)
        raise KeyError("of this block")

    outcomes = together.run(insert(1), fail, insert(3), insert(3), insert(4))
    kinds = [type(outcome.exception()) for outcome in outcomes]
    assert kinds[:2] + kinds[4:] == [type(None), KeyError, type(None)]
    assert set(kinds[2:4]) == {type(None), sa.exc.IntegrityError}
    assert numbers(database) == [1, 3, 4]


def test_a_block_that_raises_returns_when_what_it_found_is_committed(
    database: Database, together: Together
) -> None:
    """Its caller looks for the row that it conflicts with, in a transaction of its own."""
    seen: list[int] = []
    has_looked = threading.Event()

    def look() -> None:
        with suppress(sa.exc.IntegrityError), database.write() as connection:
            insert(1)(connection)
        seen.extend(numbers(database))
        has_looked.set()

    def start(connection: sa.Connection) -> threading.Thread:
        insert(1)(connection)
        thread = threading.Thread(target=look)
        thread.start()
        group = database._group
        assert group is not None
        while group._waiting < 2:
            threading.Event().wait(0.001)
        return thread

    # The group is still open while the last block waits.
    started, _ = together.run(start, lambda _: has_looked.wait(0.3))
    thread = started.result()
    assert isinstance(thread, threading.Thread)
    thread.join(10)
    assert seen == [1]


def test_the_first_block_may_raise(database: Database) -> None:
    with suppress(KeyError), database.write() as connection:
        insert(1)(connection)
        raise KeyError
    with database.write() as connection:
        insert(2)(connection)
    assert numbers(database) == [2]


def test_a_commit_that_fails_fails_for_all(database: Database, together: Together) -> None:
    def orphan(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO children VALUES (99)")

    called: list[int] = []

    def notify(connection: sa.Connection) -> None:
        database.after_commit(lambda: called.append(1))

    outcomes = together.run(insert(1), orphan, notify, insert(2))
    assert all(isinstance(each.exception(), sa.exc.IntegrityError) for each in outcomes)
    assert numbers(database) == called == []
    with database.write() as connection:
        insert(3)(connection)
    assert numbers(database) == [3]


def test_a_full_disk_fails_for_what_it_undoes(database: Database, together: Together) -> None:
    def fill(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        connection.exec_driver_sql("INSERT INTO numbers VALUES (2, zeroblob(1000000))")

    outcomes = together.run(insert(1), fill, insert(3))
    full, stored = outcomes[1].exception(), numbers(database)
    assert isinstance(full, StoreFull)
    for number, outcome in ((1, outcomes[0]), (3, outcomes[2])):
        assert (outcome.exception() is None) == (number in stored)
        assert outcome.exception() is None or isinstance(outcome.exception(), StoreUnavailable)


def test_an_error_that_undoes_everything_cannot_be_hidden(
    database: Database, together: Together
) -> None:
    """SQLite rolls back the transaction itself after some errors, and a block may go on."""

    def lose(connection: sa.Connection) -> None:
        insert(2)(connection)
        connection.exec_driver_sql("ROLLBACK")

    def lose_inside(connection: sa.Connection) -> None:
        with suppress(StoreUnavailable), database.write() as inner:
            lose(inner)
        with suppress(StoreUnavailable), database.write() as inner:
            insert(3)(inner)

    for losing in (lose, lose_inside):
        outcomes = together.run(insert(1), losing, insert(4))
        with database.read() as connection:
            found = list(connection.scalars(sa.text("SELECT number FROM numbers")))
        for number, outcome in ((1, outcomes[0]), (2, outcomes[1]), (4, outcomes[2])):
            assert (outcome.exception() is None) == (number in found)
        with database.write() as connection:
            connection.exec_driver_sql("DELETE FROM numbers")


def test_callbacks_run_after_the_commit_in_the_order_of_the_blocks(
    database: Database, together: Together
) -> None:
    ran: list[int] = []
    called: list[tuple[int, list[int]]] = []

    def block(number: int) -> Callable[[sa.Connection], object]:
        def run(connection: sa.Connection) -> None:
            insert(number)(connection)
            database.after_commit(lambda: called.append((number, numbers(database))))
            if number == 2:
                raise KeyError
            ran.append(number)

        return run

    together.run(*map(block, (1, 2, 3)))
    assert sorted(ran) == [1, 3]
    assert called == [(number, [1, 3]) for number in ran]


def test_callbacks_may_read_even_if_the_last_block_raises(
    database: Database, together: Together
) -> None:
    called: list[list[int]] = []

    def notify(connection: sa.Connection) -> None:
        insert(1)(connection)
        database.after_commit(lambda: called.append(numbers(database)))

    def fail(connection: sa.Connection) -> None:
        raise KeyError

    together.run(notify, fail, fail, fail)
    assert called == [[1]]


def test_a_block_inside_a_block_is_a_part_of_it(database: Database) -> None:
    called: list[int] = []
    with suppress(KeyError), database.write() as outer:
        insert(1)(outer)
        with database.write() as inner:
            insert(2)(inner)
            database.after_commit(lambda: called.append(2))
        raise KeyError
    assert numbers(database) == called == []
    with database.write() as outer:
        insert(3)(outer)
        with suppress(KeyError), database.write() as inner:
            insert(4)(inner)
            database.after_commit(lambda: called.append(4))
            raise KeyError
        with database.write() as inner:
            insert(5)(inner)
            database.after_commit(lambda: called.append(5))
        assert called == []
    assert numbers(database) == [3, 5]
    assert called == [5]


def test_only_the_writing_thread_sees_what_is_not_committed(database: Database) -> None:
    with database.write() as connection, ThreadPoolExecutor(1) as pool:
        insert(1)(connection)
        assert numbers(database) == [1]
        assert pool.submit(numbers, database).result(10) == []


def test_a_block_is_committed_if_those_behind_it_never_come(database: Database) -> None:
    group = database._group
    assert group is not None
    group._waiting += 1  # a thread that waits for its turn
    with ThreadPoolExecutor(1) as pool:

        def write() -> None:
            with database.write() as connection:
                insert(1)(connection)

        outcome = pool.submit(write)
        while group._open is None:
            threading.Event().wait(0.001)
        group._waiting -= 1  # it was interrupted
        outcome.result(10)
    assert numbers(database) == [1]


def test_a_callback_that_raises_fails_for_its_block_alone(
    database: Database, together: Together
) -> None:
    called: list[str] = []

    def notify(connection: sa.Connection) -> None:
        database.after_commit(lambda: called.append("notified"))

    def fail() -> None:
        called.append("failed")
        raise KeyError("of this callback")

    def notify_badly(connection: sa.Connection) -> None:
        insert(1)(connection)
        database.after_commit(fail)

    outcomes = together.run(notify, notify_badly, notify, insert(2))
    assert sorted(called) == ["failed", "notified", "notified"]
    errors = [type(outcome.exception()) for outcome in outcomes]
    assert errors == [type(None), KeyError, type(None), type(None)]
    assert numbers(database) == [1, 2]


def test_blocks_do_not_wait_one_after_the_other_for_a_transaction_that_cannot_begin() -> None:
    """Another process may hold the lock: each attempt to begin takes the whole busy timeout."""
    attempts: list[int] = []
    is_held, go_on = threading.Event(), threading.Event()

    def connect() -> sa.Connection:
        attempts.append(1)
        is_held.set()
        go_on.wait(10)
        raise sqlite3.OperationalError("database is locked")

    group = GroupCommit(connect)

    def write() -> None:
        with group.join():
            pass

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(write)
        is_held.wait(10)
        others = [pool.submit(write) for _ in range(8)]
        while group._waiting < 8:
            threading.Event().wait(0.001)
        go_on.set()
        for outcome in (first, *others):
            assert isinstance(outcome.exception(10), sqlite3.OperationalError)
    assert len(attempts) == 2  # the one that was under way when they came, and a later one
    with pytest.raises(sqlite3.OperationalError):
        write()
    assert len(attempts) == 3  # what comes afterwards tries for itself
