"""The contract of scans for near-identical masters, and of what they find."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from storage.errors import CollectionGone
from storage.protocols import (
    Decision,
    DuplicatePair,
    DuplicateScan,
    MetadataStore,
    ModelRegistry,
    NewDeletion,
    Removal,
)
from storage.records import LOOK, Collection, IndexTask, Master, NewMaster, new_id

VERSION = "model-1"
LEASE = 60.0
NEW = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


@pytest.fixture
def scan(metadata: MetadataStore, collection: Collection) -> DuplicateScan:
    return metadata.start_scan(collection.id, collection.id, LOOK, 0.65)


def store(
    metadata: MetadataStore, collection: Collection, number: int, *, indexed: bool = True
) -> Master:
    new = replace(NEW, sha256=number.to_bytes(32))
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    if indexed:
        assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    return master


def store_ids(metadata: MetadataStore, collection: Collection, count: int) -> list[UUID]:
    return sorted(store(metadata, collection, number).id for number in range(count))


def pair(first: UUID, second: UUID, common: int = 20) -> DuplicatePair:
    return DuplicatePair((first, second), common, 0.25)


def found(metadata: MetadataStore, scan: DuplicateScan) -> list[tuple[UUID, UUID, int, float]]:
    return [
        (UUID(bytes=each.first), UUID(bytes=each.second), each.common, each.distance)
        for each in metadata.list_pairs(scan.id, 100, None)
    ]


def read(metadata: MetadataStore, scan: DuplicateScan) -> DuplicateScan:
    now = metadata.find_scan(scan.collection_id, scan.other_id, scan.space)
    assert now is not None
    return now


def unchecked(
    metadata: MetadataStore, scan: DuplicateScan, version: str = VERSION
) -> tuple[list[UUID], int]:
    rest = metadata.list_unchecked(scan.id, version, scan.collection_id, None, 100)
    assert rest.next_after is None
    return rest.ids, rest.waiting


def test_a_scan_is_started_once(metadata: MetadataStore, collection: Collection) -> None:
    other = metadata.create_collection("other")
    scan = metadata.start_scan(other.id, collection.id, LOOK, 0.65)
    assert scan.collection_ids == sorted((collection.id, other.id))
    assert (scan.space, scan.max_distance, scan.changes) == (LOOK, 0.65, 0)
    assert metadata.start_scan(collection.id, other.id, LOOK, 0.65) == scan
    assert metadata.find_scan(collection.id, other.id, LOOK) == scan
    assert metadata.find_scan(collection.id, collection.id, LOOK) is None
    assert metadata.find_scan(collection.id, other.id, "words") is None
    within = metadata.start_scan(collection.id, collection.id, LOOK, 0.65)
    assert metadata.list_scans() == sorted((scan, within), key=lambda each: each.id)


def test_another_distance_starts_anew(metadata: MetadataStore, scan: DuplicateScan) -> None:
    again = metadata.start_scan(scan.collection_id, scan.other_id, LOOK, 0.5)
    assert again.id != scan.id
    assert metadata.list_scans() == [again]


def test_a_started_scan_is_complete_no_longer(metadata: MetadataStore, scan: DuplicateScan) -> None:
    assert scan.completed_at is None
    metadata.complete_scan(scan.id)
    completed = read(metadata, scan)
    assert completed.completed_at is not None
    metadata.complete_scan(scan.id)
    assert read(metadata, scan) == completed
    assert metadata.start_scan(scan.collection_id, scan.other_id, LOOK, 0.65) == scan


def test_a_collection_that_is_gone_cannot_be_scanned(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.delete_collection("shop")
    with pytest.raises(CollectionGone):
        metadata.start_scan(collection.id, collection.id, LOOK, 0.65)


def test_the_scans_of_a_collection_go_with_it(
    metadata: MetadataStore, scan: DuplicateScan, collection: Collection
) -> None:
    other = metadata.create_collection("other")
    between = metadata.start_scan(other.id, collection.id, LOOK, 0.65)
    kept = metadata.start_scan(other.id, other.id, LOOK, 0.65)
    metadata.delete_collection("shop")
    assert metadata.list_scans() == [kept]
    assert metadata.find_scan(other.id, collection.id, LOOK) is None
    metadata.drain_collections(10)
    assert not metadata.end_scan(between.id)
    assert not metadata.end_scan(scan.id)


def test_what_a_scan_has_not_compared_is_listed_in_parts(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    ids = store_ids(metadata, collection, 4)
    assert metadata.save_checks(scan.id, VERSION, [ids[1]], [])
    first = metadata.list_unchecked(scan.id, VERSION, collection.id, None, 3)
    assert (first.ids, first.waiting, first.next_after) == ([ids[0], ids[2]], 0, ids[2])
    rest = metadata.list_unchecked(scan.id, VERSION, collection.id, first.next_after, 3)
    assert (rest.ids, rest.next_after) == ([ids[3]], None)
    assert metadata.count_checked(scan.id, VERSION) == 1


def test_masters_that_are_not_indexed_are_counted(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    ready = store(metadata, collection, 1)
    waiting = store(metadata, collection, 2, indexed=False)
    assert unchecked(metadata, scan) == ([ready.id], 1)
    metadata.retry_embedding(IndexTask(waiting, VERSION, 0), "owner", "broken", None)
    assert unchecked(metadata, scan) == ([ready.id], 0)
    assert unchecked(metadata, scan, "model-2") == ([], 0)


def test_another_model_version_compares_again(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection, scan: DuplicateScan
) -> None:
    (only,) = store_ids(metadata, collection, 1)
    metadata.save_checks(scan.id, VERSION, [only], [])
    registry.start_building("model-2", LOOK)
    registry.backfill_embeddings("model-2", None, 10)
    assert unchecked(metadata, scan, "model-2") == ([], 1)
    metadata.save_checks(scan.id, "model-2", [only], [])
    assert unchecked(metadata, scan, "model-2") == ([], 0)
    assert metadata.count_checked(scan.id, VERSION) == 0
    assert metadata.count_checked(scan.id, "model-2") == 1


def test_pairs_are_saved_with_the_check(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    assert metadata.save_checks(scan.id, VERSION, [b], [pair(b, c), pair(a, b)])
    assert found(metadata, scan) == [(a, b, 20, 0.25), (b, c, 20, 0.25)]
    assert metadata.count_pairs(scan.id) == 2
    assert unchecked(metadata, scan) == ([a, c], 0)
    part = metadata.list_pairs(scan.id, 1, None)
    assert [each.second for each in part] == [b.bytes]
    assert [each.first for each in metadata.list_pairs(scan.id, 5, (a, b))] == [b.bytes]


def test_changes_are_counted_only_when_pairs_change(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    metadata.save_checks(scan.id, VERSION, [a], [pair(a, b), pair(a, c)])
    metadata.save_checks(scan.id, VERSION, [b], [pair(a, b)])
    assert read(metadata, scan).changes == 1
    metadata.save_checks(scan.id, VERSION, [b], [pair(a, b, 30)])
    assert read(metadata, scan).changes == 2
    assert found(metadata, scan) == [(a, b, 30, 0.25), (a, c, 20, 0.25)]
    metadata.save_decisions([a, b], Decision.KEEP)
    metadata.remove_decisions([a, b])
    metadata.remove_decisions([a, b])
    assert read(metadata, scan).changes == 4


def test_nothing_is_saved_for_a_scan_that_is_gone(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b = store_ids(metadata, collection, 2)
    assert metadata.end_scan(scan.id)
    assert not metadata.save_checks(scan.id, VERSION, [a], [pair(a, b)])
    assert metadata.count_checked(scan.id, VERSION) == metadata.count_pairs(scan.id) == 0


def test_masters_that_are_deleted_meanwhile_are_left_out(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    metadata.delete_master(b)
    assert metadata.save_checks(scan.id, VERSION, [a, b], [pair(a, b), pair(a, c), pair(b, c)])
    assert metadata.count_checked(scan.id, VERSION) == 1
    assert found(metadata, scan) == [(a, c, 20, 0.25)]


def test_a_deleted_master_leaves_the_pairs_and_is_forgotten(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    metadata.save_features({a: b"1", b: b"2"}, 1)
    metadata.save_checks(scan.id, VERSION, [a, b, c], [pair(a, b), pair(b, c)])
    metadata.delete_master(b)
    assert found(metadata, scan) == []
    assert metadata.count_pairs(scan.id) == 2
    metadata.claim_deleting("worker", 10, LEASE)
    metadata.forget_master(b, "worker")
    assert metadata.count_pairs(scan.id) == 0
    assert metadata.count_checked(scan.id, VERSION) == 2
    assert metadata.find_features([a, b], 1) == {a: b"1"}


def test_what_an_ended_scan_found_is_removed_in_parts(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    kept = metadata.start_scan(collection.id, collection.id, "words", 0.65)
    for each in (scan, kept):
        metadata.save_checks(each.id, VERSION, [a, b, c], [pair(a, b), pair(b, c)])
    assert metadata.remove_leftovers(10) == 0
    metadata.end_scan(scan.id)
    assert [metadata.remove_leftovers(2) for _ in range(4)] == [2, 2, 1, 0]
    assert metadata.count_checked(scan.id, VERSION) == metadata.count_pairs(scan.id) == 0
    assert (metadata.count_checked(kept.id, VERSION), metadata.count_pairs(kept.id)) == (3, 2)


def test_features_are_kept_by_format(metadata: MetadataStore, collection: Collection) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    unknown = new_id()
    metadata.save_features({a: b"\x01features", b: b"", unknown: b"x"}, 1)
    assert metadata.find_features([a, b, c, unknown], 1) == {a: b"\x01features", b: b""}
    assert metadata.find_features([a], 2) == {}
    metadata.save_features({a: b"\x02"}, 2)
    assert metadata.find_features([a], 1) == {}
    assert metadata.find_features([a], 2) == {a: b"\x02"}
    assert metadata.find_features([], 1) == {}
    metadata.save_features({}, 1)


def test_restored_bytes_are_compared_again(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b = store_ids(metadata, collection, 2)
    metadata.save_features({a: b"", b: b""}, 1)
    metadata.save_checks(scan.id, VERSION, [a, b], [])
    metadata.mark_damaged(a)
    metadata.complete_scan(scan.id)
    assert metadata.restore_damaged(a)
    assert (read(metadata, scan).changes, read(metadata, scan).completed_at) == (1, None)
    assert unchecked(metadata, scan) == ([a], 0)
    assert metadata.find_features([a, b], 1) == {b: b""}


def test_masters_that_are_given_back_are_compared_again(
    metadata: MetadataStore, collection: Collection, scan: DuplicateScan
) -> None:
    a, b, c = store_ids(metadata, collection, 3)
    metadata.save_features({a: b"1"}, 1)
    metadata.save_checks(scan.id, VERSION, [a, b, c], [pair(a, b)])
    metadata.complete_scan(scan.id)
    deletion = NewDeletion(new_id(), collection.id, "filter", 3600.0)
    assert metadata.remove_masters(deletion, [Removal({a: 1})]) == {a}
    assert found(metadata, scan) == []
    assert metadata.restore_masters(deletion.id, [a]).masters == {a}
    assert found(metadata, scan) == [(a, b, 20, 0.25)]
    assert (read(metadata, scan).changes, read(metadata, scan).completed_at) == (2, None)
    assert unchecked(metadata, scan) == ([], 1)  # its vector was removed
    assert metadata.find_features([a], 1) == {a: b"1"}
