"""The contract of changes of many masters: each under its revision, in one transaction."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from storage.filter_parser import parse_filter
from storage.metadata import new_id
from storage.protocols import AttributeUpdate, MetadataStore, ModelRegistry
from storage.records import LOOK, Collection, IndexTask, Master, NewMaster

VERSION = "model-1"
NEW = NewMaster(bytes(32), 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})
LEASE = 60.0


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


def store(metadata: MetadataStore, collection: Collection, number: int) -> Master:
    attributes = {"number": number, "odd": number % 2 == 1, "text": "é 😀"}
    new = replace(NEW, sha256=number.to_bytes(32), attributes=attributes)
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    stored = metadata.find_master(master.id)
    assert stored is not None
    return stored


@pytest.fixture
def masters(metadata: MetadataStore, collection: Collection) -> list[Master]:
    """Six masters by falling ids; those with an odd number match the filter ODD."""
    stored = [store(metadata, collection, number) for number in range(6)]
    return sorted(stored, key=lambda master: master.id, reverse=True)


ODD = parse_filter({"odd": True})
LONG = parse_filter({"odd": True, "number": {"$gte": 0}, "text": "é 😀"})


@pytest.mark.parametrize("filter", [ODD, LONG], ids=["short", "long"])
def test_masters_that_match_are_selected_by_falling_ids(
    metadata: MetadataStore, collection: Collection, masters: list[Master], filter: object
) -> None:
    elsewhere = metadata.create_collection("other")
    store(metadata, elsewhere, 7)
    odd = [master for master in masters if master.attributes["odd"]]
    assert metadata.select_masters(collection.id, filter, 9, None) == odd  # type: ignore[arg-type]
    assert metadata.select_masters(collection.id, ODD, 2, None) == odd[:2]
    assert metadata.select_masters(collection.id, ODD, 2, odd[1].id) == odd[2:]
    assert metadata.select_masters(collection.id, ODD, 2, odd[2].id) == []
    metadata.delete_master(odd[0].id)
    metadata.mark_damaged(odd[1].id)
    assert metadata.select_masters(collection.id, ODD, 9, None) == odd[2:]
    metadata.delete_collection("shop")
    assert metadata.select_masters(collection.id, ODD, 9, None) == []


def test_updates_raise_revisions_and_request_indexing(
    metadata: MetadataStore, collection: Collection, masters: list[Master]
) -> None:
    new = {"nested": {"text": "ü", "list": [1, True, "a"]}}
    updates = [
        AttributeUpdate(master.id, 1, new | {"n": n}) for n, master in enumerate(masters[:3])
    ]
    assert metadata.update_masters(collection.id, updates) == {each.master_id for each in updates}
    for number, master in enumerate(masters[:3]):
        found = metadata.find_master(master.id)
        assert found is not None
        assert (found.revision, found.attributes) == (2, new | {"n": number})
        assert not metadata.is_indexed(master.id, VERSION)
    assert metadata.find_master(masters[3].id) == masters[3]
    assert metadata.count_pending_embeddings() == 3
    assert metadata.update_masters(collection.id, []) == set()


def test_a_master_with_another_revision_stays_as_it_is(
    metadata: MetadataStore, collection: Collection, masters: list[Master]
) -> None:
    changed = metadata.update_master(masters[0].id, name="new", attributes=None)
    metadata.delete_master(masters[1].id)
    metadata.mark_damaged(masters[2].id)
    updates = [AttributeUpdate(master.id, 1, {}) for master in masters]
    updates.append(AttributeUpdate(new_id(), 1, {}))
    done = metadata.update_masters(collection.id, updates)
    assert done == {master.id for master in masters[3:]}
    assert metadata.find_master(masters[0].id) == changed
    assert metadata.restore_damaged(masters[2].id)
    damaged = metadata.find_master(masters[2].id)
    assert damaged is not None
    assert damaged.attributes == masters[2].attributes
    assert metadata.delete_masters(collection.id, {master.id: 1 for master in masters}) == {
        masters[2].id
    }
    assert metadata.find_master(masters[0].id) == changed


def test_deleted_masters_are_gone_at_once_and_are_removed_by_the_worker(
    metadata: MetadataStore, collection: Collection, masters: list[Master]
) -> None:
    metadata.mark_damaged(masters[0].id)
    revisions: dict[UUID, int] = {master.id: 1 for master in masters[:3]}
    assert metadata.delete_masters(collection.id, revisions) == set(revisions)
    assert metadata.delete_masters(collection.id, revisions) == set()
    assert metadata.count_masters(collection.id) == 3
    assert {each.id for each in metadata.claim_deleting("worker", 9, LEASE)} == set(revisions)
    assert metadata.delete_masters(collection.id, {}) == set()
    again = store(metadata, collection, masters[0].attributes["number"])
    assert again.id not in revisions


def test_nothing_is_changed_in_another_or_deleted_collection(
    metadata: MetadataStore, collection: Collection, masters: list[Master]
) -> None:
    other = metadata.create_collection("other")
    updates = [AttributeUpdate(master.id, 1, {}) for master in masters]
    revisions = {master.id: 1 for master in masters}
    assert metadata.update_masters(other.id, updates) == set()
    assert metadata.delete_masters(other.id, revisions) == set()
    metadata.delete_collection("shop")
    assert metadata.update_masters(collection.id, updates) == set()
    assert metadata.delete_masters(collection.id, revisions) == set()
