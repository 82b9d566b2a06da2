"""The contract of the metadata stores."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import CollectionExists, CollectionGone, MasterChanged, MasterExists
from storage.metadata import new_id
from storage.protocols import MetadataStore, ModelRegistry
from storage.records import LOOK, Claim, Collection, IndexTask, Master, MasterState, NewMaster

VERSION = "model-1"
NEW = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {"colour": "red"})
LEASE = 60.0


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


def other(number: int) -> NewMaster:
    return replace(NEW, sha256=number.to_bytes(32), attributes={"number": number})


def stored(
    metadata: MetadataStore, collection: Collection, new: NewMaster = NEW, *, indexed: bool = True
) -> Master:
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    if indexed:
        assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    return master


def test_ids_sort_by_time_and_are_version_7() -> None:
    ids = []
    for _ in range(5):
        ids.append(new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert {id_.version for id_ in ids} == {7}
    assert {id_.variant for id_ in ids} == {UUID(int=0).variant} or all(
        "RFC" in str(id_.variant) for id_ in ids
    )


def test_a_collection_is_found_by_its_name(metadata: MetadataStore, collection: Collection) -> None:
    assert metadata.find_collection("shop") == collection
    assert metadata.find_collection("none") is None


def test_an_existing_name_cannot_be_created_again(
    metadata: MetadataStore, collection: Collection
) -> None:
    with pytest.raises(CollectionExists):
        metadata.create_collection("shop")


def test_deleting_a_collection_frees_its_name_at_once(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert metadata.delete_collection("shop")
    assert not metadata.delete_collection("shop")
    again = metadata.create_collection("shop")
    assert again.id != collection.id
    assert metadata.find_master(master.id) is None
    assert metadata.count_masters(again.id) == 0


def test_a_deleted_collection_is_drained_in_batches_and_then_forgotten(
    metadata: MetadataStore, collection: Collection
) -> None:
    for number in range(5):
        stored(metadata, collection, other(number))
    metadata.delete_collection("shop")
    assert [metadata.drain_collections(2) for _ in range(4)] == [2, 2, 1, 0]
    claimed = metadata.claim_deleting("worker", 10, LEASE)
    assert len(claimed) == 5
    for master in claimed:
        metadata.forget_master(master.id, "worker")
    metadata.drain_collections(2)
    with pytest.raises(CollectionGone):
        metadata.reserve_master(collection.id, NEW, "owner", LEASE)


def test_a_deleted_collection_accepts_no_upload(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.delete_collection("shop")
    with pytest.raises(CollectionGone):
        metadata.reserve_master(collection.id, NEW, "owner", LEASE)


def test_collections_are_listed_by_name_with_their_stored_masters(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.create_collection("archive")
    stored(metadata, collection)
    metadata.reserve_master(collection.id, other(2), "owner", LEASE)
    assert [(found.name, count) for found, count in metadata.list_collections()] == [
        ("archive", 0),
        ("shop", 1),
    ]


def test_a_master_is_visible_once_stored(metadata: MetadataStore, collection: Collection) -> None:
    reservation = metadata.reserve_master(collection.id, NEW, "owner", LEASE)
    assert reservation.claim is Claim.OURS
    assert metadata.find_master(reservation.master.id) is None
    assert metadata.find_by_hash("shop", NEW.sha256) is None
    assert metadata.commit_stored(reservation.master.id, "owner", [VERSION], LEASE)
    found = metadata.find_master(reservation.master.id)
    assert found is not None
    assert found == replace(reservation.master, state=MasterState.STORED)
    assert metadata.find_by_hash("shop", NEW.sha256) == found
    assert (found.name, found.attributes, found.width, found.collection) == (
        "cat.jpg",
        {"colour": "red"},
        640,
        "shop",
    )


def test_the_same_bytes_are_reserved_once(metadata: MetadataStore, collection: Collection) -> None:
    first = metadata.reserve_master(collection.id, NEW, "first", LEASE)
    assert metadata.reserve_master(collection.id, NEW, "second", LEASE).claim is Claim.BUSY
    metadata.commit_stored(first.master.id, "first", [VERSION], LEASE)
    second = metadata.reserve_master(collection.id, NEW, "second", LEASE)
    assert (second.claim, second.master.id) == (Claim.EXISTS, first.master.id)


def test_an_expired_lease_is_taken_over_and_its_owner_is_locked_out(
    metadata: MetadataStore, collection: Collection
) -> None:
    first = metadata.reserve_master(collection.id, NEW, "first", 0.0)
    time.sleep(0.01)
    renamed = replace(NEW, name="new name", attributes={"colour": "blue"})
    second = metadata.reserve_master(collection.id, renamed, "second", LEASE)
    assert (second.claim, second.master.id, second.master.name, second.master.attributes) == (
        Claim.OURS,
        first.master.id,
        "new name",
        {"colour": "blue"},
    )
    assert not metadata.renew_reservation(first.master.id, "first", LEASE)
    assert not metadata.commit_stored(first.master.id, "first", [VERSION], LEASE)
    assert metadata.commit_stored(first.master.id, "second", [VERSION], LEASE)


def test_a_renewed_reservation_is_not_taken_over(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = metadata.reserve_master(collection.id, NEW, "first", 0.0).master
    assert metadata.renew_reservation(master.id, "first", LEASE)
    assert metadata.reserve_master(collection.id, NEW, "second", LEASE).claim is Claim.BUSY


def test_abandoned_and_expired_uploads_are_deleted(
    metadata: MetadataStore, collection: Collection
) -> None:
    abandoned = metadata.reserve_master(collection.id, NEW, "owner", LEASE).master
    assert not metadata.abandon_reservation(abandoned.id, "somebody else")
    assert metadata.abandon_reservation(abandoned.id, "owner")
    expired = metadata.reserve_master(collection.id, other(2), "owner", 0.0).master
    kept = metadata.reserve_master(collection.id, other(3), "owner", LEASE).master
    time.sleep(0.01)
    assert metadata.expire_reservations() == 1
    assert {master.id for master in metadata.claim_deleting("worker", 10, LEASE)} == {
        abandoned.id,
        expired.id,
    }
    assert metadata.commit_stored(kept.id, "owner", [VERSION], LEASE)


def test_one_of_many_concurrent_uploads_reserves_the_master(
    metadata: MetadataStore, collection: Collection
) -> None:
    claims: list[Claim] = []

    def reserve(number: int) -> None:
        claims.append(metadata.reserve_master(collection.id, NEW, f"owner-{number}", LEASE).claim)

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claims) == [Claim.BUSY] * 19 + [Claim.OURS]


def test_find_masters_leaves_out_masters_that_are_not_in_the_collection(
    metadata: MetadataStore, collection: Collection
) -> None:
    here = stored(metadata, collection)
    elsewhere = stored(metadata, metadata.create_collection("other"), other(2))
    deleted = stored(metadata, collection, other(3))
    metadata.delete_master(deleted.id)
    found = metadata.find_masters(collection.id, [here.id, elsewhere.id, deleted.id, new_id()])
    assert list(found) == [here.id]


def test_an_update_raises_the_revision_and_requests_indexing(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert metadata.count_pending_embeddings() == 0
    changed = metadata.update_master(master.id, name=None, attributes={"colour": "blue"})
    assert changed is not None
    assert (changed.revision, changed.attributes, changed.name) == (
        2,
        {"colour": "blue"},
        "cat.jpg",
    )
    assert metadata.count_pending_embeddings() == 1
    assert not metadata.is_indexed(master.id, VERSION)
    assert metadata.update_master(new_id(), name="x", attributes=None) is None


def test_a_change_or_deletion_of_another_revision_is_refused(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    changed = metadata.update_master(master.id, name="new", attributes=None, revisions={1, 7})
    assert changed is not None
    for revisions in (set[int](), {1}, {1, 3}):
        with pytest.raises(MasterChanged) as refused:
            metadata.update_master(master.id, name="x", attributes={}, revisions=revisions)
        assert refused.value.revision == 2
        with pytest.raises(MasterChanged):
            metadata.delete_master(master.id, revisions)
    assert metadata.find_master(master.id) == changed
    assert metadata.update_master(new_id(), name="x", attributes=None, revisions={1}) is None
    assert not metadata.delete_master(new_id(), {1})
    assert metadata.delete_master(master.id, {2})


def test_attributes_that_a_caller_changes_later_stay_as_they_were_stored(
    metadata: MetadataStore, collection: Collection
) -> None:
    given = {"tags": ["red"]}
    master = stored(metadata, collection, replace(NEW, attributes=given))
    given["tags"].append("changed by the caller")
    read = metadata.find_master(master.id)
    assert read is not None
    read.attributes["tags"].append("changed by a reader")
    assert metadata.find_masters(collection.id, [master.id])[master.id].attributes == {
        "tags": ["red"]
    }


def test_indexing_an_old_revision_does_not_count(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    metadata.update_master(master.id, name="new", attributes=None)
    assert not metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    assert metadata.count_pending_embeddings() == 1
    # The first owner has lost its lease.
    (task,) = metadata.claim_embeddings([VERSION], "worker", 10, LEASE)
    assert task.master.revision == 2
    assert metadata.mark_indexed(task, "worker")
    assert metadata.count_pending_embeddings() == 0


def test_only_the_lease_holder_marks_an_embedding_as_indexed(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    assert not metadata.mark_indexed(IndexTask(master, VERSION, 0), "somebody else")
    assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    assert metadata.is_indexed(master.id, VERSION)


def test_a_leased_embedding_is_claimed_by_nobody_else(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    assert metadata.claim_embeddings([VERSION], "worker", 10, LEASE) == []
    assert not metadata.claim_embedding(master.id, VERSION, "worker", LEASE)
    metadata.retry_embedding(IndexTask(master, VERSION, 0), "owner", "why", 0.0)
    time.sleep(0.002)
    assert [
        task.attempts for task in metadata.claim_embeddings([VERSION], "worker", 10, LEASE)
    ] == [1]
    assert metadata.claim_embeddings([VERSION], "another", 10, LEASE) == []


def test_a_failed_embedding_waits_for_its_time(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    metadata.retry_embedding(IndexTask(master, VERSION, 0), "owner", "why", 60.0)
    assert metadata.claim_embeddings([VERSION], "worker", 10, LEASE) == []


def test_embeddings_of_other_versions_are_left_alone(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    metadata.retry_embedding(IndexTask(master, VERSION, 0), "owner", "why", 0.0)
    time.sleep(0.002)
    assert metadata.claim_embeddings(["model-2"], "worker", 10, LEASE) == []


def test_released_leases_can_be_claimed_again(
    metadata: MetadataStore, collection: Collection
) -> None:
    stored(metadata, collection, indexed=False)
    metadata.release_owned_leases("owner")
    assert len(metadata.claim_embeddings([VERSION], "worker", 10, LEASE)) == 1


def test_a_deleted_master_is_gone_at_once_and_its_bytes_can_be_uploaded_again(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert metadata.delete_master(master.id)
    assert not metadata.delete_master(master.id)
    assert metadata.find_master(master.id) is None
    again = stored(metadata, collection)
    assert again.id != master.id


def test_a_deletion_is_claimed_once_and_forgotten_by_its_owner(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    metadata.delete_master(master.id)
    (claimed,) = metadata.claim_deleting("worker", 10, LEASE)
    assert claimed.object_key == replace(master, state=MasterState.DELETING).object_key
    assert metadata.claim_deleting("another", 10, LEASE) == []
    metadata.forget_master(master.id, "another")
    metadata.release_owned_leases("worker")
    assert len(metadata.claim_deleting("another", 10, LEASE)) == 1
    metadata.forget_master(master.id, "another")
    metadata.release_owned_leases("another")
    assert metadata.claim_deleting("worker", 10, LEASE) == []


def test_records_are_imported_unchanged(metadata: MetadataStore, collection: Collection) -> None:
    first, second = (
        stored(metadata, collection, other(1)),
        stored(metadata, collection, other(2), indexed=False),
    )
    assert (
        metadata.update_master(first.id, name="dog.jpg", attributes={"ü": [1, 2.5, None]})
        is not None
    )
    metadata.reserve_master(collection.id, other(3), "owner", LEASE)
    records = metadata.list_records(None, 10, collection.id)
    assert [(record.master.id, record.indexed) for record in records] == [
        (first.id, {VERSION: None}),
        (second.id, {VERSION: None}),
    ]
    assert metadata.list_records(first.id, 10, collection.id) == records[1:]
    assert metadata.list_records(None, 1, collection.id) == records[:1]
    assert metadata.empty_collection("shop")

    elsewhere = replace(collection, id=new_id(), name="elsewhere")
    metadata.import_collection(elsewhere)
    metadata.import_collection(elsewhere)
    assert metadata.find_collection("elsewhere") == elsewhere
    with pytest.raises(CollectionExists):
        metadata.import_collection(replace(elsewhere, id=new_id()))
    carried = [
        replace(
            record,
            master=replace(
                record.master, id=new_id(), collection_id=elsewhere.id, collection="elsewhere"
            ),
        )
        for record in records
    ]
    carried[1] = replace(carried[1], indexed={VERSION: 1})
    metadata.import_records(carried)
    assert metadata.list_records(None, 10, elsewhere.id) == sorted(
        carried, key=lambda record: record.master.id
    )
    same_bytes = replace(carried[0], master=replace(carried[0].master, id=new_id()))
    unlike = replace(
        carried[0], master=replace(carried[0].master, id=new_id(), sha256=b"\x09" * 32)
    )
    with pytest.raises(MasterExists):
        metadata.import_records([unlike, same_bytes])
    assert metadata.find_master(unlike.master.id) is None
    tasks = metadata.claim_embeddings([VERSION], "worker", 10, LEASE)
    assert [task.master for task in tasks if task.master.collection == "elsewhere"] == [
        carried[0].master
    ]


def test_an_import_replaces_a_master_with_its_embeddings(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert metadata.requeue_embedding(master.id, "model-2", None)
    record = metadata.find_records([master.id])[master.id]
    metadata.import_records([replace(record, indexed={"model-3": 1})])
    assert metadata.find_records([master.id])[master.id].indexed == {"model-3": 1}
    elsewhere = replace(record, master=replace(master, id=new_id(), collection_id=new_id()))
    with pytest.raises(MasterExists):
        metadata.import_records([elsewhere])


def test_masters_of_a_deleted_collection_are_neither_listed_nor_deleted_one_by_one(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    metadata.delete_collection("shop")
    assert metadata.list_records(None, 10) == []
    assert not metadata.delete_master(master.id)


def test_a_deleted_collection_stays_until_its_masters_are_forgotten(
    metadata: MetadataStore, collection: Collection
) -> None:
    stored(metadata, collection)
    metadata.delete_collection("shop")
    assert [metadata.drain_collections(10), metadata.drain_collections(10)] == [1, 0]
    assert metadata.count_unfinished() == 2
    (master,) = metadata.claim_deleting("worker", 10, LEASE)
    metadata.forget_master(master.id, "worker")
    metadata.drain_collections(10)
    assert metadata.count_unfinished() == 0


def test_a_lease_that_expired_is_not_held(metadata: MetadataStore) -> None:
    assert not metadata.is_leased("scrub")
    metadata.acquire_lease("scrub", "one", LEASE)
    assert metadata.is_leased("scrub")
    metadata.acquire_lease("scrub", "one", 0.0)
    time.sleep(0.01)
    assert not metadata.is_leased("scrub")


def test_the_end_of_a_lease_is_kept_until_it_is_released(metadata: MetadataStore) -> None:
    assert metadata.find_lease_end("mark") is None
    metadata.acquire_lease("mark", "one", 0.0)
    present = metadata.find_lease_end("mark")
    assert present is not None
    metadata.acquire_lease("mark", "one", -100.0)  # its holder may move it back
    earlier = metadata.find_lease_end("mark")
    assert earlier is not None
    assert present - 100_000 <= earlier < present
    metadata.release_lease("mark", "one")
    assert metadata.find_lease_end("mark") is None


def test_unfinished_work_is_counted(metadata: MetadataStore, collection: Collection) -> None:
    master = stored(metadata, collection)
    assert metadata.count_unfinished() == 0
    metadata.reserve_master(collection.id, other(1), "owner", LEASE)
    metadata.delete_master(master.id)
    metadata.create_collection("other")
    metadata.delete_collection("other")
    assert metadata.count_unfinished() == 3


def test_a_damaged_master_is_hidden_until_its_bytes_are_uploaded_again(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert metadata.mark_damaged(master.id)
    assert not metadata.mark_damaged(master.id)
    assert metadata.find_master(master.id) is None
    assert metadata.find_by_hash("shop", NEW.sha256) is None
    assert (
        metadata.find_records([master.id, new_id()])[master.id].master.state is MasterState.DAMAGED
    )
    assert [record.master.id for record in metadata.list_records(None, 10)] == [master.id]
    reservation = metadata.reserve_master(collection.id, NEW, "second", LEASE)
    assert (reservation.claim, reservation.master.id) == (Claim.DAMAGED, master.id)
    assert metadata.restore_damaged(master.id)
    assert [each.id for each in metadata.list_unread(1, 10)] == [master.id]
    assert not metadata.restore_damaged(master.id)
    assert metadata.reserve_master(collection.id, NEW, "second", LEASE).claim is Claim.EXISTS
    metadata.delete_master(master.id)
    assert not metadata.mark_damaged(master.id)
    assert metadata.find_records([master.id])[master.id].master.state is MasterState.DELETING


def test_an_embedding_is_requeued_only_at_the_expected_revision(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection)
    assert not metadata.requeue_embedding(master.id, VERSION, 2)
    assert not metadata.requeue_embedding(master.id, VERSION, None)
    assert metadata.requeue_embedding(master.id, VERSION, 1)
    assert not metadata.requeue_embedding(master.id, VERSION, 1)
    assert metadata.requeue_embedding(master.id, "model-2", None)
    assert metadata.find_records([master.id])[master.id].indexed == {VERSION: None, "model-2": None}
    metadata.delete_master(master.id)
    assert not metadata.requeue_embedding(master.id, "model-3", None)


def test_a_lease_has_one_holder_at_a_time(metadata: MetadataStore) -> None:
    taken = []

    def take(number: int) -> None:
        if metadata.acquire_lease("scrub", f"process-{number}", LEASE):
            taken.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (holder,) = taken
    assert metadata.acquire_lease("scrub", f"process-{holder}", 0.0)
    assert metadata.acquire_lease("backup", "another", LEASE)
    time.sleep(0.01)
    assert metadata.acquire_lease("scrub", "another", LEASE)
    metadata.release_lease("scrub", f"process-{holder}")
    assert not metadata.acquire_lease("scrub", "a third", LEASE)
    metadata.release_lease("scrub", "another")
    assert metadata.acquire_lease("scrub", "a third", LEASE)


def test_nothing_is_stored_in_a_collection_that_was_deleted_meanwhile(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = metadata.reserve_master(collection.id, NEW, "owner", LEASE).master
    assert metadata.empty_collection("shop")
    assert not metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    assert metadata.abandon_reservation(master.id, "owner")


# SQLite and the fake have only one writer at a time.
@pytest.mark.parametrize("metadata_backend", ["mysql"], indirect=True)
def test_marking_an_embedding_as_indexed_waits_for_a_change_in_progress(
    metadata_backend: Database, metadata: MetadataStore, collection: Collection
) -> None:
    master = stored(metadata, collection, indexed=False)
    marked: list[bool] = []
    marking = threading.Thread(
        target=lambda: marked.append(metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner"))
    )
    with metadata_backend.write() as connection:  # a slow update_master
        connection.execute(sa.text("UPDATE masters SET revision = revision + 1"))
        connection.execute(sa.text("UPDATE embeddings SET state = 'pending'"))
        marking.start()
        time.sleep(0.3)
    marking.join()
    assert marked == [False]
    assert metadata.count_pending_embeddings() == 1


def test_revisions_are_listed_in_the_order_of_ids(
    metadata: MetadataStore, collection: Collection
) -> None:
    first, second, third = (stored(metadata, collection, other(number)) for number in range(3))
    metadata.update_master(second.id, name="new", attributes=None)
    metadata.mark_damaged(first.id)
    metadata.delete_master(third.id)
    elsewhere = metadata.create_collection("elsewhere")
    stored(metadata, elsewhere, other(9))
    listed = metadata.list_revisions(collection.id, None, 10)
    assert [(each.id, each.revision, each.state) for each in listed] == sorted(
        [(first.id, 1, MasterState.DAMAGED), (second.id, 2, MasterState.STORED)]
    )
    records = metadata.find_records([each.id for each in listed])
    assert all(records[each.id].master.updated_at == each.updated_at for each in listed)
    assert metadata.list_revisions(collection.id, None, 1) == listed[:1]
    assert metadata.list_revisions(collection.id, listed[0].id, 10) == listed[1:]


def test_a_database_gets_one_id(metadata: MetadataStore) -> None:
    assert metadata.find_database_id() is None
    assert metadata.claim_database_id("first") == "first"
    assert metadata.claim_database_id("second") == "first"
    assert metadata.find_database_id() == "first"


def test_claims_at_the_same_time_agree(metadata: MetadataStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        claimed = set(pool.map(metadata.claim_database_id, map(str, range(8))))
    assert claimed == {metadata.find_database_id()}


def test_bytes_are_taken_until_their_master_is_deleted(
    metadata: MetadataStore, collection: Collection
) -> None:
    assert not metadata.is_taken("shop", NEW.sha256)
    master = metadata.reserve_master(collection.id, NEW, "owner", LEASE).master
    assert metadata.is_taken("shop", NEW.sha256)
    metadata.commit_stored(master.id, "owner", [], LEASE)
    metadata.mark_damaged(master.id)
    assert metadata.is_taken("shop", NEW.sha256)
    assert not metadata.is_taken("shop", other(1).sha256)
    assert not metadata.is_taken("other", NEW.sha256)
    metadata.restore_damaged(master.id)
    assert metadata.delete_master(master.id)
    assert not metadata.is_taken("shop", NEW.sha256)
