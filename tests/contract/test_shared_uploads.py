"""Uploads of several threads that share transactions on the database server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest

from storage.database import Database
from storage.errors import CollectionGone
from storage.metadata import SqlMetadataStore, SqlModelRegistry
from storage.records import LOOK, Claim, IndexTask, Master, NewMaster
from tests.support.held_calls import HeldCalls
from tests.support.sent_statements import name_statements, record_statements

VERSION = "model-1"
RESERVE = ["SELECT", "SELECT", "INSERT masters", "COMMIT"]
STORE = ["SELECT", "UPDATE masters", "SELECT", "SELECT", "INSERT embeddings", "COMMIT"]
MARK = ["SELECT", "UPDATE embeddings", "COMMIT"]


@pytest.fixture
def store(mysql_database: Database) -> SqlMetadataStore:
    SqlModelRegistry(mysql_database).register_active(VERSION, LOOK)
    store = SqlMetadataStore(mysql_database)
    store.create_collection("shop")
    return store


def shop(store: SqlMetadataStore) -> UUID:
    collection = store.find_collection("shop")
    assert collection is not None
    return collection.id


def make_new(number: int) -> NewMaster:
    return NewMaster(number.to_bytes(32), 1, "image/jpeg", "jpg", 1, 1, f"{number}.jpg", {})


def reserve(store: SqlMetadataStore, numbers: range) -> list[Master]:
    """Reserve a row for each number, owned by ``str(number)``."""
    id_ = shop(store)
    return [store.reserve_master(id_, make_new(n), str(n), 60).master for n in numbers]


def store_all(store: SqlMetadataStore, numbers: range) -> list[IndexTask]:
    masters = reserve(store, numbers)
    for number, master in zip(numbers, masters, strict=True):
        assert store.commit_stored(master.id, str(number), [VERSION], 60) == [VERSION]
    return [IndexTask(master, VERSION, 0) for master in masters]


def test_a_lone_upload_sends_these_statements(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, sent = shop(store), record_statements(monkeypatch)
    store.find_by_hash("shop", bytes(32))
    master = store.reserve_master(id_, make_new(1), "1", 60).master
    store.commit_stored(master.id, "1", [VERSION], 60)
    store.mark_indexed(IndexTask(master, VERSION, 0), "1")
    assert name_statements(sent) == ["SELECT", "COMMIT", *RESERVE, *STORE, *MARK]


def test_uploads_that_wait_share_these_statements(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, numbers, sent = shop(store), range(2, 7), record_statements(monkeypatch)

    def send(calls: HeldCalls, first: tuple[object, ...], *others: tuple[object, ...]) -> list:
        """Let the others wait for the first; return the answers, and keep their statements."""
        started = [calls.start(*arguments) for arguments in (first, *others)]
        calls.release()
        answers = [each.result(30) for each in started]
        assert calls.sizes == [1, len(others)]
        return answers

    reserved = send(
        HeldCalls(store._reservations, monkeypatch),
        *((store.reserve_master, id_, make_new(n), str(n), 60) for n in (1, *numbers)),
    )
    masters = [each.master for each in reserved]
    assert {each.claim for each in reserved} == {Claim.OURS}
    assert name_statements(sent) == RESERVE * 2
    sent.clear()
    stored = send(
        HeldCalls(store._commits, monkeypatch),
        *(
            (store.commit_stored, each.id, str(n), [VERSION], 60)
            for n, each in enumerate(masters, 1)
        ),
    )
    assert stored == [[VERSION]] * 6
    assert name_statements(sent) == STORE * 2
    sent.clear()
    tasks = [IndexTask(master, VERSION, 0) for master in masters]
    marked = send(
        HeldCalls(store._marks, monkeypatch),
        *((store.mark_indexed, task, str(n)) for n, task in enumerate(tasks, 1)),
    )
    assert marked == [True] * 6
    assert name_statements(sent) == MARK * 2
    for number, master in enumerate(masters, 1):
        found = store.find_by_hash("shop", number.to_bytes(32))
        assert found is not None
        assert (found.id, found.name) == (master.id, f"{number}.jpg")
        assert store.is_indexed(master.id, VERSION)


def test_an_upload_finds_its_bytes_among_others_that_are_new(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (known,) = store_all(store, range(2, 3))
    id_, calls = shop(store), HeldCalls(store._reservations, monkeypatch)
    started = [
        calls.start(store.reserve_master, id_, make_new(number), "me", 60) for number in (1, 2, 3)
    ]
    calls.release()
    reserved = [each.result(30) for each in started]
    assert [each.claim for each in reserved] == [Claim.OURS, Claim.EXISTS, Claim.OURS]
    assert reserved[1].master.id == known.master.id
    assert calls.sizes == [1, 2]


def test_uploads_into_a_deleted_collection_fail_and_others_do_not(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, calls = shop(store), HeldCalls(store._reservations, monkeypatch)
    store.delete_collection("shop")
    new = store.create_collection("shop").id
    started = [
        calls.start(store.reserve_master, id_, make_new(number), "me", 60)
        for number, id_ in enumerate((new, old, new, old, new))
    ]
    calls.release()
    for number in (0, 2, 4):
        assert started[number].result(30).claim is Claim.OURS
    for number in (1, 3):
        with pytest.raises(CollectionGone):
            started[number].result(30)


def test_an_upload_that_lost_its_lease_is_refused_alone(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(5)
    masters, calls = reserve(store, numbers), HeldCalls(store._commits, monkeypatch)
    started = [
        calls.start(store.commit_stored, master.id, "other" if n == 2 else str(n), [VERSION], 60)
        for n, master in zip(numbers, masters, strict=True)
    ]
    calls.release()
    assert [each.result(30) for each in started] == [
        None if number == 2 else [VERSION] for number in numbers
    ]
    assert calls.sizes == [1, 4, 1, 1, 1, 1]
    assert [store.find_by_hash("shop", number.to_bytes(32)) is not None for number in numbers] == [
        number != 2 for number in numbers
    ]


def test_an_embedding_of_a_changed_master_stays_pending_and_others_do_not(
    store: SqlMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(5)
    tasks, calls = store_all(store, numbers), HeldCalls(store._marks, monkeypatch)
    store.update_master(tasks[2].master.id, name="changed", attributes=None)
    started = [
        calls.start(store.mark_indexed, task, "other" if n == 3 else str(n))
        for n, task in zip(numbers, tasks, strict=True)
    ]
    calls.release()
    expected = [number not in (2, 3) for number in numbers]
    assert [each.result(30) for each in started] == expected
    assert [store.is_indexed(task.master.id, VERSION) for task in tasks] == expected
    changed = store.find_master(tasks[2].master.id)
    assert changed is not None
    assert store.claim_embedding(changed.id, VERSION, "next", 60)  # the lease was freed
    assert store.mark_indexed(replace(tasks[2], master=changed), "next")


def test_uploads_of_many_threads_are_all_stored_and_indexed(store: SqlMetadataStore) -> None:
    id_ = shop(store)

    def upload(number: int) -> bool:
        owner = str(number)
        master = store.reserve_master(id_, make_new(number), owner, 60).master
        assert store.commit_stored(master.id, owner, [VERSION], 60) == [VERSION]
        return store.mark_indexed(IndexTask(master, VERSION, 0), owner)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(upload, range(200)))
    assert store.list_collections()[0][1] == 200
    assert store.count_pending_embeddings() == 0
