"""The contract of the embedding outbox: pending embeddings, failures and dead letters."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from storage.protocols import MetadataStore, ModelRegistry
from storage.records import LOOK, Collection, DeadLetter, IndexTask, Master, NewMaster

VERSION = "model-1"
LEASE = 60.0


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


def store(metadata: MetadataStore, collection: Collection, number: int) -> IndexTask:
    """Store a master, and return the embedding that "owner" is to index."""
    new = NewMaster(number.to_bytes(32), 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE) == [VERSION]
    time.sleep(0.002)  # ids and due times differ by milliseconds
    return IndexTask(master, VERSION, 0)


def claim(metadata: MetadataStore, limit: int = 10) -> list[IndexTask]:
    return metadata.claim_embeddings([VERSION], "worker", limit, LEASE)


def ids_of(found: list[IndexTask] | list[DeadLetter] | list[Master]) -> list[UUID]:
    return [one.id if isinstance(one, Master) else one.master.id for one in found]


def test_embeddings_due_longest_are_claimed_first(
    metadata: MetadataStore, collection: Collection
) -> None:
    first, second = store(metadata, collection, 1), store(metadata, collection, 2)
    metadata.release_embedding(second, "owner", 0.0)
    time.sleep(0.002)
    metadata.release_embedding(first, "owner", 0.0)
    time.sleep(0.002)
    assert ids_of(claim(metadata, 1)) == [second.master.id]
    assert ids_of(claim(metadata, 1)) == [first.master.id]


def test_a_released_embedding_waits_for_its_time(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.release_embedding(store(metadata, collection, 1), "owner", 60.0)
    assert claim(metadata) == []


def test_embeddings_of_masters_that_are_not_stored_are_neither_claimed_nor_marked(
    metadata: MetadataStore, collection: Collection
) -> None:
    waiting, leased = store(metadata, collection, 1), store(metadata, collection, 2)
    metadata.release_embedding(waiting, "owner", 0.0)
    time.sleep(0.002)
    assert metadata.mark_damaged(waiting.master.id)
    assert metadata.mark_damaged(leased.master.id)
    assert claim(metadata) == []
    assert not metadata.mark_indexed(leased, "owner")
    assert not metadata.is_indexed(leased.master.id, VERSION)


def test_a_change_makes_a_failed_embedding_due_without_attempts(
    metadata: MetadataStore, collection: Collection
) -> None:
    task = store(metadata, collection, 1)
    metadata.retry_embedding(task, "owner", "why", 60.0)
    metadata.update_master(task.master.id, name="new", attributes=None)
    time.sleep(0.002)
    assert [one.attempts for one in claim(metadata)] == [0]


def test_an_indexed_embedding_starts_again_without_attempts(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.retry_embedding(store(metadata, collection, 1), "owner", "why", 0.0)
    time.sleep(0.002)
    (task,) = claim(metadata)
    assert task.attempts == 1
    assert metadata.mark_indexed(task, "worker")
    assert metadata.requeue_embedding(task.master.id, VERSION, 1)
    time.sleep(0.002)
    assert [one.attempts for one in claim(metadata)] == [0]


def test_dead_letters_are_listed_oldest_first_with_the_start_of_their_failure(
    metadata: MetadataStore, collection: Collection
) -> None:
    first, second, deleted = (store(metadata, collection, number) for number in (1, 2, 3))
    for task in (deleted, second, first):
        metadata.retry_embedding(task, "owner", "x" * 600, None)
    metadata.delete_master(deleted.master.id)
    letters = metadata.list_dead_letters(10)
    assert ids_of(letters) == [first.master.id, second.master.id]
    assert {letter.failure for letter in letters} == {"x" * 500}
    assert metadata.list_dead_letters(1) == letters[:1]


def test_deletions_are_claimed_up_to_the_limit(
    metadata: MetadataStore, collection: Collection
) -> None:
    tasks = [store(metadata, collection, number) for number in range(3)]
    for task in tasks:
        metadata.delete_master(task.master.id)
    first = metadata.claim_deleting("one", 2, LEASE)
    second = metadata.claim_deleting("two", 2, LEASE)
    assert (len(first), len(second)) == (2, 1)
    assert set(ids_of([*first, *second])) == set(ids_of(tasks))


def test_a_write_is_reserved_for_the_current_revision_even_from_another_owner(
    metadata: MetadataStore, collection: Collection
) -> None:
    task = store(metadata, collection, 1)
    assert metadata.claim_embedding(task.master.id, VERSION, "owner", LEASE)  # extends its lease
    assert not metadata.claim_embedding(task.master.id, VERSION, "another", LEASE)
    assert metadata.reserve_write(task, "another", LEASE)
    changed = metadata.update_master(task.master.id, name="new", attributes=None)
    assert changed is not None
    assert not metadata.reserve_write(task, "another", LEASE)  # which releases it
    assert metadata.claim_embedding(task.master.id, VERSION, "next", LEASE)
    current = IndexTask(changed, VERSION, 0)
    assert metadata.mark_indexed(current, "next")
    assert not metadata.reserve_write(current, "owner", LEASE)  # nothing is left to write


def test_a_late_mark_queues_the_embedding_again_and_ends_the_lease_of_another_owner(
    metadata: MetadataStore, collection: Collection
) -> None:
    late = store(metadata, collection, 1)
    metadata.release_embedding(late, "owner", 0.0)
    changed = metadata.update_master(late.master.id, name="new", attributes=None)
    assert changed is not None
    current = IndexTask(changed, VERSION, 0)
    for finished in (True, False):
        assert metadata.claim_embedding(late.master.id, VERSION, "next", LEASE)
        assert not finished or metadata.mark_indexed(current, "next")
        assert not metadata.mark_indexed(late, "owner")
        assert not metadata.is_indexed(late.master.id, VERSION)
        assert not metadata.mark_indexed(current, "next")
    assert metadata.claim_embedding(late.master.id, VERSION, "worker", LEASE)
    assert metadata.mark_indexed(current, "worker")
    assert not metadata.mark_indexed(current, "owner")  # the same revision does no harm
    assert metadata.is_indexed(late.master.id, VERSION)
