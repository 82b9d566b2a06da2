"""The contract of deletions that can be undone."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from storage.metadata import new_id
from storage.protocols import KeptMaster, MetadataStore, ModelRegistry, NewDeletion, Removal
from storage.records import (
    LOOK,
    Claim,
    Collection,
    IndexTask,
    Master,
    MasterRecord,
    MasterState,
    NewMaster,
)

VERSION = "model-1"
NEW = NewMaster(bytes(32), 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {"a": 1})
LEASE = 60.0
DAY = 86_400.0


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


def store(metadata: MetadataStore, collection: Collection, number: int) -> Master:
    new = replace(NEW, sha256=number.to_bytes(32))
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    stored = metadata.find_master(master.id)
    assert stored is not None
    return stored


@pytest.fixture
def masters(metadata: MetadataStore, collection: Collection) -> list[Master]:
    return [store(metadata, collection, number) for number in range(4)]


@pytest.fixture
def deletion(collection: Collection) -> NewDeletion:
    return NewDeletion(new_id(), collection.id, "filter", DAY)


def seen(*masters: Master) -> list[Removal]:
    """Return removals of masters one by one, as they were seen."""
    return [Removal({master.id: master.revision}) for master in masters]


def record_of(metadata: MetadataStore, master_id: UUID) -> MasterRecord:
    return metadata.find_records([master_id])[master_id]


def settle(metadata: MetadataStore) -> list[UUID]:
    """Do what a worker does with removed masters, and return their ids."""
    ids = metadata.claim_removed("worker-1", 99, LEASE)
    metadata.settle_removed(ids, "worker-1")
    return ids


def test_removed_masters_are_hidden_and_their_bytes_are_free(
    metadata: MetadataStore,
    collection: Collection,
    masters: list[Master],
    deletion: NewDeletion,
) -> None:
    ids = {master.id for master in masters[:2]}
    assert metadata.remove_masters(deletion, seen(*masters[:2])) == ids
    assert metadata.find_master(masters[0].id) is None
    assert metadata.find_by_hash("shop", masters[0].sha256) is None
    assert metadata.count_masters(collection.id) == 2
    assert [record.master.id for record in metadata.list_records(None, 9)] == [
        master.id for master in masters[2:]
    ]
    assert len(metadata.list_revisions(collection.id, None, 9)) == 2
    assert record_of(metadata, masters[0].id).master.state is MasterState.REMOVED
    assert record_of(metadata, masters[0].id).indexed == {}
    assert not metadata.delete_master(masters[0].id)
    assert not metadata.mark_damaged(masters[0].id)
    assert metadata.claim_deleting("worker-1", 9, LEASE) == []
    assert metadata.count_unfinished() == 0
    new = replace(NEW, sha256=masters[0].sha256)
    again = metadata.reserve_master(collection.id, new, "owner", LEASE)
    assert again.claim is Claim.OURS
    assert again.master.id not in ids


def test_a_master_that_is_not_as_it_was_seen_stays(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    changed, damaged, fine, _ = masters
    metadata.update_master(changed.id, name="new", attributes=None)
    assert metadata.mark_damaged(damaged.id)
    given = [*seen(changed, damaged, fine), Removal({new_id(): 1})]
    assert metadata.remove_masters(deletion, given) == {fine.id}
    assert metadata.remove_masters(deletion, seen(fine)) == set()
    assert record_of(metadata, damaged.id).master.state is MasterState.DAMAGED
    assert metadata.remove_masters(deletion, []) == set()


def test_masters_are_removed_together_or_not_at_all(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    metadata.update_master(masters[0].id, name="new", attributes=None)
    together = Removal({master.id: 1 for master in masters[:2]})
    kept = Removal({masters[2].id: 1}, KeptMaster(masters[0].id, 1, {"b": 2}))
    gone = Removal({masters[3].id: 1}, KeptMaster(new_id(), 1))
    assert metadata.remove_masters(deletion, [together, kept, gone]) == set()
    assert metadata.list_deletions(None, 9) == []
    assert all(metadata.find_master(master.id) for master in masters)


def test_nothing_is_removed_from_a_deleted_collection(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    metadata.delete_collection("shop")
    assert metadata.remove_masters(deletion, seen(*masters)) == set()


def test_deletions_are_listed_while_they_can_be_undone(
    metadata: MetadataStore,
    collection: Collection,
    masters: list[Master],
    deletion: NewDeletion,
) -> None:
    other = metadata.create_collection("other")
    later = NewDeletion(new_id(), other.id, "duplicates", DAY)
    metadata.remove_masters(deletion, seen(*masters[:2]))
    metadata.remove_masters(deletion, seen(masters[2]))
    metadata.remove_masters(later, seen(store(metadata, other, 9)))
    first = metadata.find_deletion(deletion.id)
    assert first is not None
    assert (first.collection, first.reason, first.masters) == ("shop", "filter", 3)
    assert first.undo_until - first.created_at == pytest.approx(DAY * 1000, abs=2)
    second = metadata.find_deletion(later.id)
    assert second is not None
    assert metadata.list_deletions(None, 9) in ([second, first], [first, second])
    assert metadata.list_deletions(None, 1)[0] in (first, second)
    assert metadata.list_deletions(collection.id, 9) == [first]
    assert set(metadata.list_removed(deletion.id)) == {master.id for master in masters[:3]}
    metadata.delete_collection("shop")
    assert metadata.list_deletions(None, 9) == [second]
    assert metadata.find_deletion(deletion.id) is None
    over = NewDeletion(new_id(), other.id, "filter", 0.0)
    metadata.remove_masters(over, seen(store(metadata, other, 10)))
    assert metadata.find_deletion(over.id) is None
    assert metadata.list_removed(over.id) == []
    assert metadata.find_deletion(new_id()) is None


def test_an_undone_deletion_brings_masters_back_to_be_indexed(
    metadata: MetadataStore,
    registry: ModelRegistry,
    masters: list[Master],
    deletion: NewDeletion,
) -> None:
    ids = [master.id for master in masters[:2]]
    metadata.remove_masters(deletion, seen(*masters[:2]))
    assert set(settle(metadata)) == set(ids)
    registry.start_building("model-2", LOOK)
    assert metadata.restore_masters(deletion.id, ids[:1]).masters == {ids[0]}
    assert metadata.restore_masters(new_id(), ids).masters == set()
    back = metadata.find_master(ids[0])
    assert back is not None
    expected = replace(masters[0], revision=2, updated_at=back.updated_at)
    assert back == expected
    assert metadata.find_by_hash("shop", back.sha256) == back
    assert record_of(metadata, ids[0]).indexed == {VERSION: None, "model-2": None}
    (task,) = metadata.claim_embeddings([VERSION], "worker-1", 9, LEASE)
    assert task.master == back
    assert metadata.mark_indexed(task, "worker-1")
    assert metadata.restore_attributes(deletion.id) == 0
    assert metadata.list_removed(deletion.id) == [ids[1]]
    restored = metadata.restore_masters(deletion.id, ids)
    assert (restored.masters, restored.conflicts, restored.held) == ({ids[1]}, {}, set())
    assert metadata.find_deletion(deletion.id) is None
    assert metadata.restore_masters(deletion.id, ids).masters == set()
    assert metadata.claim_removed("worker-1", 9, LEASE) == []


def test_bytes_that_were_uploaded_again_are_not_stored_twice(
    metadata: MetadataStore,
    collection: Collection,
    masters: list[Master],
    deletion: NewDeletion,
) -> None:
    metadata.remove_masters(deletion, seen(*masters[:2]))
    again = store(metadata, collection, 0)
    restored = metadata.restore_masters(deletion.id, [master.id for master in masters])
    assert restored.masters == {masters[1].id}
    assert restored.conflicts == {masters[0].id: again.id}
    left = metadata.find_deletion(deletion.id)
    assert left is not None
    assert left.masters == 1
    metadata.delete_master(again.id)
    assert metadata.restore_masters(deletion.id, [masters[0].id]).masters == {masters[0].id}


def test_a_master_that_a_worker_holds_is_not_restored_under_it(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    metadata.remove_masters(deletion, seen(*masters))
    assert len(metadata.claim_removed("worker-1", 2, LEASE)) == 2
    held = metadata.claim_removed("worker-2", 9, LEASE)
    assert len(held) == 2
    assert metadata.claim_removed("worker-3", 9, LEASE) == []
    metadata.release_owned_leases("worker-1")
    restored = metadata.restore_masters(deletion.id, [master.id for master in masters])
    assert restored.held == set(held)
    assert len(restored.masters) == 2
    metadata.settle_removed(held, "worker-2")
    assert metadata.claim_removed("worker-3", 9, LEASE) == []
    assert metadata.restore_masters(deletion.id, held).masters == set(held)


def test_a_vector_that_is_removed_after_the_undo_is_written_again(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    metadata.remove_masters(deletion, seen(*masters[:2]))
    ids = metadata.claim_removed("worker-1", 9, LEASE)
    metadata.release_owned_leases("worker-1")  # as if its lease had expired
    assert metadata.restore_masters(deletion.id, ids).masters == set(ids)
    first, second = metadata.claim_embeddings([VERSION], "worker-2", 9, LEASE)
    assert metadata.mark_indexed(first, "worker-2")
    metadata.settle_removed(ids, "worker-1")
    assert not metadata.mark_indexed(second, "worker-2")
    assert len(metadata.claim_embeddings([VERSION], "worker-2", 9, LEASE)) == 2


def test_a_deletion_ends_when_its_time_is_over(
    metadata: MetadataStore, collection: Collection, masters: list[Master], deletion: NewDeletion
) -> None:
    over = NewDeletion(new_id(), collection.id, "filter", 0.0)
    metadata.remove_masters(deletion, seen(masters[0]))
    merged = Removal({masters[1].id: 1}, KeptMaster(masters[3].id, 1, {"b": 2}))
    metadata.remove_masters(over, [merged, *seen(masters[2])])
    ids = {masters[1].id, masters[2].id}
    assert metadata.restore_masters(over.id, list(ids)).masters == set()
    assert metadata.restore_attributes(over.id) == 0
    assert metadata.expire_deletions(1) == 1
    while metadata.expire_deletions(1):
        pass
    assert {each.id for each in metadata.claim_deleting("worker-1", 9, LEASE)} == ids
    for id_ in ids:
        metadata.forget_master(id_, "worker-1")
    assert metadata.find_records(list(ids)) == {}
    assert metadata.list_removed(deletion.id) == [masters[0].id]


def test_a_deleted_collection_takes_its_removed_masters_along(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    metadata.remove_masters(deletion, seen(masters[0]))
    metadata.delete_collection("shop")
    assert metadata.restore_masters(deletion.id, [masters[0].id]).masters == set()
    assert metadata.drain_collections(9) == 4
    claimed = metadata.claim_deleting("worker-1", 9, LEASE)
    assert {each.id for each in claimed} == {master.id for master in masters}
    for each in claimed:
        metadata.forget_master(each.id, "worker-1")
    assert metadata.drain_collections(9) == 0
    assert metadata.count_unfinished() == 0


def test_a_deletion_of_two_collections_can_be_undone_in_the_one_that_is_left(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    other = metadata.create_collection("other")
    elsewhere = store(metadata, other, 9)
    metadata.remove_masters(deletion, seen(masters[0], elsewhere))
    (both,) = metadata.list_deletions(other.id, 9)
    assert (both.collection, both.masters) == ("shop", 2)
    metadata.delete_collection("shop")
    left = metadata.find_deletion(deletion.id)
    assert left is not None
    assert (left.collection, left.masters) == ("other", 1)
    assert metadata.list_deletions(None, 9) == [left]
    metadata.drain_collections(9)
    assert metadata.find_deletion(deletion.id) == left
    restored = metadata.restore_masters(deletion.id, metadata.list_removed(deletion.id))
    assert restored.masters == {elsewhere.id}
    assert metadata.find_deletion(deletion.id) is None


def test_merged_attributes_are_taken_back(
    metadata: MetadataStore, masters: list[Master], deletion: NewDeletion
) -> None:
    one, two, three, four = masters
    removals = [
        Removal({two.id: 1}, KeptMaster(one.id, 1, {"a": 1, "b": [2], "é": None})),
        Removal({four.id: 1}, KeptMaster(three.id, 1, {"a": 2})),
    ]
    assert metadata.remove_masters(deletion, removals) == {two.id, four.id}
    merged = metadata.find_master(one.id)
    assert merged is not None
    assert (merged.attributes, merged.revision) == ({"a": 1, "b": [2], "é": None}, 2)
    assert record_of(metadata, one.id).indexed == {VERSION: None}
    metadata.update_master(three.id, name="changed since", attributes=None)
    assert metadata.restore_attributes(deletion.id) == 1
    restored = metadata.find_master(one.id)
    assert restored is not None
    assert (restored.attributes, restored.revision) == ({"a": 1}, 3)
    kept = metadata.find_master(three.id)
    assert kept is not None
    assert (kept.attributes, kept.revision) == ({"a": 2}, 3)
    assert metadata.restore_attributes(deletion.id) == 0
    restored_masters = metadata.restore_masters(deletion.id, [two.id, four.id])
    assert restored_masters.masters == {two.id, four.id}
    assert metadata.find_deletion(deletion.id) is None
