"""The contract of the object stores."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.services.removed_objects import QUARANTINE_PREFIX, RemovedObjects, RestoreRefused
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import ObjectStore

KEY = "masters/shop-1/ab/abcd/1.jpg"
CONTENT = bytes(range(256)) * 5000


def put(objects: ObjectStore, key: str = KEY, content: bytes = CONTENT) -> None:
    objects.put(key, io.BytesIO(content), len(content), "image/jpeg", "cat.jpg")


def test_an_object_is_read_as_it_was_written(objects: ObjectStore) -> None:
    put(objects)
    assert b"".join(objects.read(KEY)) == CONTENT
    assert objects.stat(KEY).size == len(CONTENT)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (1000, 300_000), (len(CONTENT) - 1, 1), (5, None), (0, 0), (0, 10**9), (10**8, 5)],
)
def test_ranges_are_read(objects: ObjectStore, offset: int, length: int | None) -> None:
    put(objects)
    stop = None if length is None else offset + length
    assert b"".join(objects.read(KEY, offset, length)) == CONTENT[offset:stop]


def test_aborting_unfinished_uploads_leaves_objects_alone(objects: ObjectStore) -> None:
    put(objects)
    assert objects.abort_unfinished("masters/", time.time() + 60) == 0
    assert b"".join(objects.read(KEY)) == CONTENT


def test_a_second_put_replaces_the_first(objects: ObjectStore) -> None:
    put(objects)
    put(objects, content=b"new")
    assert b"".join(objects.read(KEY)) == b"new"


def test_an_unknown_key_is_missing(objects: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        objects.read(KEY)
    with pytest.raises(ObjectMissing):
        objects.stat(KEY)


def test_deleting_twice_is_no_error(objects: ObjectStore) -> None:
    put(objects)
    objects.delete(KEY)
    objects.delete(KEY)
    with pytest.raises(ObjectMissing):
        objects.stat(KEY)


def test_a_short_put_leaves_nothing(objects: ObjectStore) -> None:
    with pytest.raises(StoreUnavailable):
        objects.put(KEY, io.BytesIO(b"half"), 100, "image/jpeg", "cat.jpg")
    assert list(objects.list("")) == []


def test_a_put_that_fails_while_reading_leaves_nothing(objects: ObjectStore) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise RuntimeError("the upload broke off")

    with pytest.raises(RuntimeError):
        objects.put(KEY, Broken(), 100, "image/jpeg", "cat.jpg")
    assert list(objects.list("")) == []


def test_listing_is_by_prefix_and_complete(objects: ObjectStore) -> None:
    keys = [f"masters/shop-1/{number:02x}/{number}.jpg" for number in range(20)]
    for key in [*keys, "models/one/weights"]:
        put(objects, key, b"x")
    assert sorted(info.key for info in objects.list("masters/")) == keys
    assert [info.size for info in objects.list("models/")] == [1]


def test_concurrent_puts_and_deletes_do_not_disturb_each_other(objects: ObjectStore) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for round_ in range(100):
                key = f"masters/shop-1/ab/{round_ % 2}/{number}.jpg"
                put(objects, key, b"x")
                objects.delete(key)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(objects.list("masters")) == []


def test_a_ping_succeeds_and_an_object_has_a_modification_time(objects: ObjectStore) -> None:
    objects.ping()
    put(objects)
    assert objects.stat(KEY).modified > 0


def test_a_large_object_comes_back_whole(objects: ObjectStore) -> None:
    content = bytes(range(251)) * 90_000  # 22 MB: three parts of a multipart upload
    put(objects, content=content)
    assert b"".join(objects.read(KEY)) == content
    assert b"".join(objects.read(KEY, 8 * 1024 * 1024 - 1, 2)) == content[8 * 1024 * 1024 - 1 :][:2]


def test_a_copy_has_the_bytes_and_replaces_its_target(objects: ObjectStore) -> None:
    put(objects)
    put(objects, "quarantine/a (1)/ä.jpg", b"other")
    objects.copy(KEY, "quarantine/a (1)/ä.jpg")
    assert b"".join(objects.read("quarantine/a (1)/ä.jpg")) == CONTENT
    assert b"".join(objects.read(KEY)) == CONTENT
    assert sorted(info.key for info in objects.list("")) == [KEY, "quarantine/a (1)/ä.jpg"]


def test_a_copy_of_an_unknown_key_is_missing_and_changes_nothing(objects: ObjectStore) -> None:
    put(objects)
    with pytest.raises(ObjectMissing):
        objects.copy("masters/none.jpg", KEY)
    assert b"".join(objects.read(KEY)) == CONTENT


def test_a_copy_of_a_large_or_an_empty_object_is_whole(objects: ObjectStore) -> None:
    for content in (bytes(range(251)) * 90_000, b""):
        put(objects, content=content)
        objects.copy(KEY, "removed/copy")
        assert b"".join(objects.read("removed/copy")) == content


def test_an_object_moves_to_quarantine_and_back(objects: ObjectStore) -> None:
    quarantine = RemovedObjects(objects, QUARANTINE_PREFIX)
    for content in (CONTENT, b"other", CONTENT):
        put(objects, content=content)
        quarantine.move(KEY)
    removed = {each.place.split("/")[1][10:]: each for each in quarantine.list()}
    assert {name: each.size for name, each in removed.items()} == {"": len(CONTENT), "-2": 5}
    quarantine.restore(removed[""])
    with pytest.raises(RestoreRefused):
        quarantine.restore(removed["-2"])
    assert b"".join(objects.read(KEY)) == CONTENT
    assert quarantine.expire(0) == 0
    assert [each.size for each in quarantine.list()] == [5]


def test_an_object_is_created_once(objects: ObjectStore) -> None:
    assert objects.create(KEY, b"first", "text/plain")
    assert not objects.create(KEY, b"second", "text/plain")
    assert b"".join(objects.read(KEY)) == b"first"
    assert [info.key for info in objects.list("")] == [KEY]
    objects.delete(KEY)
    assert objects.create(KEY, b"third", "text/plain")
    put(objects)
    assert not objects.create(KEY, b"fourth", "text/plain")
    assert b"".join(objects.read(KEY)) == CONTENT


def test_one_of_several_creators_at_once_stores_its_bytes(objects: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        contents = [f"number {number}".encode() for number in range(8)]
        created = list(pool.map(lambda each: objects.create(KEY, each, "text/plain"), contents))
    assert created.count(True) == 1
    assert b"".join(objects.read(KEY)) == contents[created.index(True)]
