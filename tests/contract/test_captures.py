"""The contract of the store of capture metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.protocols import CaptureChange, MetadataStore, ModelRegistry
from storage.records import LOOK, Collection, IndexTask, Master, MasterRecord, NewMaster

VERSION = "model-1"
LEASE = 60.0
NEW = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {"colour": "red"})
CAPTURE = {"time": 1_714_550_400_000, "camera": "Canon EOS R5", "keywords": ["a", "b"]}


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(VERSION, LOOK)
    return metadata.create_collection("shop")


def store(metadata: MetadataStore, collection: Collection, new: NewMaster) -> Master:
    master = metadata.reserve_master(collection.id, new, "owner", LEASE).master
    assert metadata.commit_stored(master.id, "owner", [VERSION], LEASE)
    assert metadata.mark_indexed(IndexTask(master, VERSION, 0), "owner")
    return read(metadata, master)


def number(value: int, reader: int = 0) -> NewMaster:
    return replace(NEW, sha256=value.to_bytes(32), capture_reader=reader)


def read(metadata: MetadataStore, master: Master) -> Master:
    found = metadata.find_master(master.id)
    assert found is not None
    return found


def change(master: Master, capture: dict[str, object], name: str = "cat.jpg") -> CaptureChange:
    return CaptureChange(master, capture, name, master.attributes)


def is_indexed(metadata: MetadataStore, master: Master) -> bool:
    return metadata.is_indexed(master.id, VERSION)


def test_an_upload_keeps_what_its_file_says(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = store(metadata, collection, replace(NEW, capture=CAPTURE, capture_reader=2))
    assert (master.capture, master.capture_reader) == (CAPTURE, 2)
    assert metadata.find_masters(collection.id, [master.id])[master.id].capture == CAPTURE
    assert metadata.count_unread(2) == 0


def test_an_upload_that_is_taken_over_keeps_what_was_read_last(
    metadata: MetadataStore, collection: Collection
) -> None:
    metadata.reserve_master(collection.id, NEW, "slow", 0.0)
    again = replace(NEW, capture=CAPTURE, capture_reader=2)
    taken = metadata.reserve_master(collection.id, again, "owner", LEASE)
    assert (taken.master.capture, taken.master.capture_reader) == (CAPTURE, 2)


def test_unread_masters_are_listed_and_counted(
    metadata: MetadataStore, collection: Collection
) -> None:
    old, unread, done = (
        store(metadata, collection, number(value, reader))
        for value, reader in ((1, 1), (2, 0), (3, 2))
    )
    metadata.reserve_master(collection.id, number(4), "owner", LEASE)  # not stored yet
    assert [each.id for each in metadata.list_unread(2, 10)] == [unread.id, old.id]
    assert [each.id for each in metadata.list_unread(2, 1)] == [unread.id]
    assert (metadata.count_unread(2), metadata.count_unread(3)) == (2, 3)
    assert read(metadata, done).capture is None
    metadata.delete_collection("shop")
    assert (metadata.list_unread(3, 10), metadata.count_unread(3)) == ([], 0)


def test_what_was_read_is_saved_and_indexed_again(
    metadata: MetadataStore, collection: Collection
) -> None:
    master, other = (store(metadata, collection, number(value)) for value in (1, 2))
    assert metadata.save_captures(2, [change(master, CAPTURE, "Cat.jpg"), change(other, {})]) == 2
    saved = read(metadata, master)
    assert (saved.capture, saved.capture_reader, saved.name) == (CAPTURE, 2, "Cat.jpg")
    assert saved.revision == master.revision + 1
    assert (read(metadata, other).capture, read(metadata, other).revision) == ({}, 2)
    assert not is_indexed(metadata, master)
    assert not is_indexed(metadata, other)
    assert metadata.save_captures(2, []) == 0


def test_reading_the_same_again_changes_nothing_else(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = store(metadata, collection, replace(number(1, 1), capture=CAPTURE))
    assert metadata.save_captures(2, [change(master, CAPTURE)]) == 1
    assert read(metadata, master) == replace(master, capture_reader=2)
    assert is_indexed(metadata, master)


def test_a_master_that_changed_meanwhile_stays_unread(
    metadata: MetadataStore, collection: Collection
) -> None:
    changed, deleted = (store(metadata, collection, number(value)) for value in (1, 2))
    metadata.update_master(changed.id, name="new.jpg", attributes=None)
    metadata.delete_master(deleted.id)
    assert metadata.save_captures(2, [change(changed, CAPTURE), change(deleted, CAPTURE)]) == 0
    assert (read(metadata, changed).name, read(metadata, changed).capture) == ("new.jpg", None)
    assert [each.id for each in metadata.list_unread(2, 10)] == [changed.id]


def test_masters_are_made_unread_in_batches(
    metadata: MetadataStore, collection: Collection
) -> None:
    masters = [store(metadata, collection, number(value, 2)) for value in range(3)]
    assert [metadata.forget_readers(2, 2) for _ in range(3)] == [2, 1, 0]
    assert metadata.count_unread(1) == 3
    assert read(metadata, masters[0]) == replace(masters[0], capture_reader=0)


def test_copied_records_keep_what_their_files_say(
    metadata: MetadataStore, collection: Collection
) -> None:
    master = store(metadata, collection, replace(number(1, 2), capture=CAPTURE))
    metadata.import_records([MasterRecord(master, {VERSION: master.revision})])
    assert read(metadata, master) == master


def test_an_attribute_comes_before_the_built_in_field(
    metadata: MetadataStore, collection: Collection
) -> None:
    new = replace(number(1, 2), capture=CAPTURE, attributes={"size": "XL"})
    master = store(metadata, collection, new)
    assert master.filterable == {
        "name": "cat.jpg",
        "mime": "image/jpeg",
        "width": 640,
        "height": 480,
        "size": "XL",
        "created_at": master.created_at,
        "capture": CAPTURE,
    }
    assert master.indexed_fields == master.filterable
    assert replace(master, capture=None).indexed_fields == {"size": "XL"}
