"""Transactions on the server wait only for those that change the same master or its collection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.mysql_engine import DatabaseOptions
from storage.records import LOOK, Collection, Master, NewMaster
from tests.support.service import eventually

VERSION = "model-1"


class Shop:
    """A collection of masters, and sessions that pause before they commit."""

    def __init__(self, database: Database) -> None:
        self._url = database.url.render_as_string(hide_password=False)
        self.metadata = SqlMetadataStore(database)
        SqlModelRegistry(database).register_active(VERSION, LOOK)
        self.collection: Collection = self.metadata.create_collection("shop")
        self._database = database

    def add(self, number: int) -> Master:
        new = NewMaster(number.to_bytes(32), 1, "image/jpeg", "jpg", 1, 1, "a.jpg", {})
        master = self.metadata.reserve_master(self.collection.id, new, "me", 60).master
        assert self.metadata.commit_stored(master.id, "me", [], 60) is not None
        return master

    @contextmanager
    def paused(self, call: Callable[[SqlMetadataStore], Any]) -> Iterator[Future[Any]]:
        """Run a call that has made its changes but commits only after the block."""
        with ExitStack() as ending, ThreadPoolExecutor(1) as pool:
            database = ending.enter_context(closing(Database(self._url)))
            changed, go_on = threading.Event(), threading.Event()

            def pause(connection: sa.Connection) -> None:
                changed.set()
                go_on.wait(60)

            sa.event.listen(database.engine, "commit", pause)
            result = pool.submit(call, SqlMetadataStore(database))
            try:
                assert changed.wait(30)
                yield result
            finally:
                go_on.set()
                result.result(30)

    @contextmanager
    def impatient(self) -> Iterator[SqlMetadataStore]:
        """A store that fails if a call waits for a lock."""
        with closing(Database(self._url, DatabaseOptions(timeout=3))) as database:
            yield SqlMetadataStore(database)

    def is_waiting(self) -> bool:
        """Return whether a transaction waits for a lock."""
        waiting = "SELECT count(*) FROM information_schema.innodb_lock_waits"
        with self._database.read() as connection:
            return bool(connection.scalar(sa.text(waiting)))


@pytest.fixture
def shop(mysql_database: Database) -> Shop:
    return Shop(mysql_database)


CHANGES: dict[str, Callable[[SqlMetadataStore, Master], Any]] = {
    "update": lambda store, master: store.update_master(master.id, name="b", attributes=None),
    "delete": lambda store, master: store.delete_master(master.id),
    "upload": lambda store, master: store.reserve_master(
        master.collection_id,
        NewMaster(master.id.bytes * 2, 1, "image/jpeg", "jpg", 1, 1, "a.jpg", {}),
        "me",
        60,
    ),
    "claim": lambda store, master: store.claim_embeddings([VERSION], "worker", 1, 60),
}


@pytest.mark.parametrize("first", CHANGES)
@pytest.mark.parametrize("second", CHANGES)
def test_changes_of_two_masters_of_a_collection_do_not_wait_for_each_other(
    shop: Shop, first: str, second: str
) -> None:
    one, other = shop.add(1), shop.add(2)
    with shop.paused(lambda store: CHANGES[first](store, one)), shop.impatient() as store:
        assert CHANGES[second](store, other)


def test_a_claim_of_deletions_does_not_lock_the_collection(shop: Shop) -> None:
    one, other = shop.add(1), shop.add(2)
    shop.metadata.delete_master(one.id)
    claim = lambda store: store.claim_deleting("worker", 10, 60)  # noqa: E731
    with shop.paused(claim) as claimed, shop.impatient() as store:
        assert CHANGES["upload"](store, other)
    assert [master.id for master in claimed.result()] == [one.id]


@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_change_waits_for_the_deletion_of_its_collection_and_finds_nothing(
    shop: Shop, change: str
) -> None:
    master = shop.add(1)
    with ThreadPoolExecutor(1) as pool:
        with shop.paused(lambda store: store.delete_collection("shop")):
            changing = pool.submit(CHANGES[change], shop.metadata, master)
            assert eventually(shop.is_waiting)
        assert not changing.result(30)


@pytest.mark.parametrize("change", ["update", "delete"])
def test_the_deletion_of_a_collection_waits_for_a_change(shop: Shop, change: str) -> None:
    master = shop.add(1)
    with ThreadPoolExecutor(1) as pool:
        with shop.paused(lambda store: CHANGES[change](store, master)) as changed:
            deleting = pool.submit(shop.metadata.delete_collection, "shop")
            assert eventually(shop.is_waiting)
        assert changed.result()
        assert deleting.result(30)
