"""Lets the write transactions of several threads share one commit of SQLite.

A commit waits for the disk, and SQLite has one writer at a time, so commits that follow one another
would bound the rate of all writers together (group commit: Gray and Reuter, Transaction
Processing, 9.4).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

_MOST_BLOCKS = 64  # in one transaction
_CHECK = 1.0  # seconds after which a waiting thread looks whether anybody will commit


@dataclass
class _Group:
    """One transaction, and the blocks of statements that share it."""

    connection: sa.Connection
    blocks: int = 0
    depth: int = 0  # of the block that is running
    callbacks: list[tuple[int, Callable[[], object]]] = field(default_factory=list)  # with blocks
    failures: dict[int, BaseException] = field(default_factory=dict)  # of callbacks, by block
    committed: threading.Event = field(default_factory=threading.Event)  # or rolled back
    error: BaseException | None = None


class GroupCommit:
    """Runs blocks of statements one after the other, and commits those that wait together.

    The last block that nobody waits behind commits at once, so a lone one is not delayed. A block
    that raises is rolled back alone. If the commit itself fails, it fails for all of them. If no
    transaction can begin, those that waited for all of the attempt fail with it.
    """

    def __init__(self, connect: Callable[[], sa.Connection]) -> None:
        """``connect`` returns a connection that begins a write transaction."""
        self._connect = connect
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0  # blocks
        self._attempts = 0  # to begin a transaction; only the thread that has the turn changes it
        self._failure: tuple[int, BaseException] | None = None  # of the last attempt, if it failed
        self._open: _Group | None = None
        self._mine = threading.local()

    @property
    def current(self) -> sa.Connection | None:
        """The connection of the block that this thread is in."""
        group: _Group | None = getattr(self._mine, "group", None)
        return None if group is None else group.connection

    @contextmanager
    def join(self) -> Iterator[sa.Connection]:
        """Yield the connection for one block, and return when its transaction is committed.

        A block inside another one of the same thread becomes a part of it. Raises what the
        database raises.
        """
        group: _Group | None = getattr(self._mine, "group", None)
        if group is not None:
            with _savepoint(group):
                yield group.connection
            return
        group = self._take_turn()
        block = group.blocks
        try:
            with self._inside(group), _savepoint(group):
                yield group.connection
        except BaseException as error:
            if group.blocks == 1 or not _is_open(group.connection):
                self._end(group, error)  # there is nothing to commit, or SQLite rolled all back
            else:
                self._leave(group)
                self._wait(group)  # the row that it conflicted with may be of another block
                if group.error is not None:
                    raise group.error from error
            raise
        self._leave(group)
        self._wait(group)
        failure = group.error or group.failures.get(block)
        if failure is not None:
            raise failure

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call back after the commit of this thread's block, and before the block returns.

        Callbacks run in the order of the blocks, and not at all for a block that is rolled back. If
        one raises, its block raises that, although it is committed; the others run all the same.
        """
        group: _Group = self._mine.group
        group.callbacks.append((group.blocks, callback))

    def _take_turn(self) -> _Group:
        with self._counting:
            self._waiting += 1
            attempts = self._attempts
        try:
            self._turn.acquire()
        finally:
            with self._counting:
                self._waiting -= 1
        try:
            if self._open is None:
                self._open = self._begin(attempts)
        except BaseException:
            self._turn.release()
            raise
        self._open.blocks += 1
        return self._open

    def _begin(self, attempts: int) -> _Group:
        """Begin a transaction for a block before which there were so many attempts to do so.

        An attempt waits for other processes for as long as it may, so a block does not try again
        after one that began and failed while it waited: many would wait one after the other.
        """
        if self._failure is not None and self._failure[0] > attempts:
            raise self._failure[1]
        with self._counting:
            self._attempts += 1
        try:
            group = _Group(self._connect())
        except BaseException as error:
            self._failure = self._attempts, error
            raise
        self._failure = None
        return group

    @contextmanager
    def _inside(self, group: _Group) -> Iterator[None]:
        self._mine.group = group
        try:
            yield
        finally:
            self._mine.group = None

    def _leave(self, group: _Group) -> None:
        """Let the next block run, or commit if there is none. This thread has the turn."""
        with self._counting:
            is_last = self._waiting == 0
        if is_last or group.blocks >= _MOST_BLOCKS:
            self._end(group, None)
        else:
            self._turn.release()

    def _end(self, group: _Group, error: BaseException | None) -> None:
        """Commit the group, or roll it back because of an error. This thread has the turn."""
        self._open = None
        try:
            self._finish(group, error)
        except BaseException as failure:
            group.error = failure
            raise
        finally:
            group.committed.set()
            self._turn.release()

    def _finish(self, group: _Group, error: BaseException | None) -> None:
        group.error = error
        with group.connection as connection:
            if error is not None:
                connection.rollback()
                return
            try:
                _check_open(connection)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
        for block, callback in group.callbacks:
            try:
                callback()
            except BaseException as failure:
                group.failures.setdefault(block, failure)

    def _wait(self, group: _Group) -> None:
        while not group.committed.wait(_CHECK):
            self._commit_abandoned(group)

    def _commit_abandoned(self, group: _Group) -> None:
        """Commit the group if the thread behind it was interrupted before its block began."""
        if self._turn.acquire(blocking=False):
            if self._open is group:
                self._leave(group)
            else:
                self._turn.release()


@contextmanager
def _savepoint(group: _Group) -> Iterator[None]:
    """Roll back what is done inside if it raises."""
    group.depth += 1
    name, callbacks = f"block_{group.depth}", len(group.callbacks)
    is_first = group.depth == 1 and group.blocks == 1
    try:
        if is_first:  # it is the whole transaction until now
            yield
            return
        _check_open(group.connection)
        _execute(group.connection, f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            del group.callbacks[callbacks:]
            if _is_open(group.connection):
                _execute(group.connection, f"ROLLBACK TO {name}")
            raise
        finally:
            if _is_open(group.connection):
                _execute(group.connection, f"RELEASE {name}")
    finally:
        group.depth -= 1


def _execute(connection: sa.Connection, statement: str) -> None:
    _driver_of(connection).execute(statement)


def _check_open(connection: sa.Connection) -> None:
    """Raise an error if an earlier one, which a block has handled, rolled back the transaction."""
    if not _is_open(connection):
        raise sqlite3.OperationalError("an error has rolled back the transaction")


def _is_open(connection: sa.Connection) -> bool:
    """Return whether the transaction is open: after some errors SQLite rolls it back."""
    is_open: bool = _driver_of(connection).in_transaction
    return is_open


def _driver_of(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection
