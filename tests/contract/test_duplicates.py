"""The contract of what is known about near-identical masters."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from uuid import UUID

import pytest

from storage.protocols import Decision, MetadataStore
from storage.records import Collection, Master, NewMaster, new_id

LEASE = 60.0
NEW = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})


@pytest.fixture
def collection(metadata: MetadataStore) -> Collection:
    return metadata.create_collection("shop")


def store(metadata: MetadataStore, collection: Collection, number: int) -> Master:
    new = replace(NEW, sha256=number.to_bytes(32))
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [], LEASE) == []
    return master


def store_ids(metadata: MetadataStore, collection: Collection, count: int) -> list[UUID]:
    return sorted(store(metadata, collection, number).id for number in range(count))


def decided(metadata: MetadataStore, *collections: Collection) -> list[tuple[UUID, UUID]]:
    found = metadata.list_decisions([each.id for each in collections], 100, None)
    return [each.masters for each in found]


def test_a_decision_is_about_every_two_of_the_masters(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids = store_ids(metadata, collection, 3)
    assert metadata.save_decisions([ids[2], ids[0], ids[1]], Decision.DIFFERENT) == set()
    assert decided(metadata, collection) == list(combinations(ids, 2))
    (first, *_) = metadata.list_decisions([collection.id], 1, None)
    assert first.decision is Decision.DIFFERENT
    assert first.decided_at > 1_600_000_000_000


def test_a_later_decision_replaces_an_earlier_one(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids = store_ids(metadata, collection, 3)
    metadata.save_decisions(ids, Decision.DIFFERENT)
    metadata.save_decisions(ids[:2], Decision.KEEP)
    kinds = [each.decision for each in metadata.list_decisions([collection.id], 10, None)]
    assert kinds == [Decision.KEEP, Decision.DIFFERENT, Decision.DIFFERENT]


def test_nothing_is_decided_if_a_master_is_missing(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids, unknown = store_ids(metadata, collection, 3), new_id()
    metadata.delete_master(ids[2])
    assert metadata.save_decisions([*ids, unknown], Decision.KEEP) == {ids[2], unknown}
    assert decided(metadata, collection) == []


def test_one_master_alone_is_nothing_to_decide_about(
    metadata: MetadataStore, collection: Collection
) -> None:
    (only,) = store_ids(metadata, collection, 1)
    assert metadata.save_decisions([only, only], Decision.KEEP) == set()
    assert decided(metadata, collection) == []


def test_decisions_are_listed_a_page_at_a_time(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids = store_ids(metadata, collection, 4)
    metadata.save_decisions(ids, Decision.DIFFERENT)
    pairs = list(combinations(ids, 2))
    first = metadata.list_decisions([collection.id], 4, None)
    second = metadata.list_decisions([collection.id], 4, first[-1].masters)
    assert [each.masters for each in first] == pairs[:4]
    assert [each.masters for each in second] == pairs[4:]
    assert metadata.list_decisions([collection.id], 4, second[-1].masters) == []


def test_a_decision_across_collections_belongs_to_both(
    metadata: MetadataStore, collection: Collection
) -> None:
    other, third = (metadata.create_collection(name) for name in ("other", "third"))
    ids = sorted((store(metadata, collection, 1).id, store(metadata, other, 1).id))
    metadata.save_decisions(ids, Decision.DIFFERENT)
    assert decided(metadata, collection) == decided(metadata, other) == [tuple(ids)]
    assert decided(metadata, collection, other) == [tuple(ids)]
    assert decided(metadata, third) == decided(metadata) == []
    metadata.delete_collection("other")
    assert decided(metadata, collection) == []


def test_decisions_are_removed_between_the_named_masters_only(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids = store_ids(metadata, collection, 3)
    metadata.save_decisions(ids, Decision.DIFFERENT)
    assert metadata.remove_decisions(ids[:2]) == 1
    assert metadata.remove_decisions(ids[:2]) == 0
    assert decided(metadata, collection) == [(ids[0], ids[2]), (ids[1], ids[2])]


def test_decisions_about_a_deleted_master_are_hidden_and_then_forgotten(
    metadata: MetadataStore, collection: Collection
) -> None:
    ids = store_ids(metadata, collection, 3)
    metadata.save_decisions(ids, Decision.DIFFERENT)
    for gone in (ids[0], ids[2]):
        metadata.delete_master(gone)
        assert all(gone not in pair for pair in decided(metadata, collection))
        metadata.claim_deleting("worker", 10, LEASE)
        metadata.forget_master(gone, "worker")
    assert metadata.remove_decisions(ids) == 0
