"""Masters: reading, changing and deleting them, and their thumbnails."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from app.errors import InvalidInput, NotFound, Unavailable
from models.imaging import ImageRejected
from storage.filter_parser import parse_filter
from storage.records import Master
from tests.support.use_cases import DOWN, UseCases, colours, raising


@pytest.fixture
def master(use_cases: UseCases) -> Master:
    return use_cases.upload(colours(1), attributes={"colour": "red"}).master


def test_masters_are_listed_newest_first_with_their_number(use_cases: UseCases) -> None:
    ids = [use_cases.upload(colours(seed), attributes={"n": seed}).master.id for seed in range(4)]
    page = use_cases.masters.list_masters("default", None, 3, None)
    assert ([each.id for each in page.masters], page.total) == (ids[:0:-1], 4)
    rest = use_cases.masters.list_masters("default", None, 3, page.next_after)
    assert [each.id for each in rest.masters] == ids[:1]
    filtered = use_cases.masters.list_masters("default", parse_filter({"n": 2}), 3, None)
    assert ([each.id for each in filtered.masters], filtered.total) == ([ids[2]], 1)


def test_an_update_changes_what_is_given_and_indexes_again(
    use_cases: UseCases, master: Master
) -> None:
    renamed = use_cases.masters.update_master(master.id, " new\u202e name ", None)
    assert (renamed.name, renamed.attributes) == ("new name", {"colour": "red"})
    changed = use_cases.masters.update_master(master.id, None, {"colour": "blue"})
    assert (changed.name, changed.attributes) == ("new name", {"colour": "blue"})
    vector = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert (vector.attributes, vector.revision) == (changed.filterable, changed.revision)


def test_a_master_that_cannot_be_embedded_here_can_be_changed(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cases.stores.vectors.delete("model-1", [master.id])
    refusal = ImageRejected("unsupported-image-type", "This process has not the extra for it.")
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.vision, "decode_image", raising(refusal))
        assert use_cases.masters.update_master(master.id, "new", None).name == "new"
    use_cases.worker.run_round()  # no lease holds it up
    vector = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert vector.attributes["name"] == "new"


@pytest.mark.parametrize("name", ["a/b", "a\\b", "", " \u200b", ".."])
def test_an_invalid_name_changes_nothing(use_cases: UseCases, master: Master, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        use_cases.masters.update_master(master.id, name, {"colour": "blue"})
    assert caught.value.code == "invalid-name"
    assert use_cases.masters.find_master(master.id).attributes == {"colour": "red"}


def test_a_deleted_master_is_not_found_and_wakes_the_worker(
    use_cases: UseCases, master: Master
) -> None:
    use_cases.masters.delete_master(master.id)
    assert use_cases.wake.is_set()
    for call in (
        lambda: use_cases.masters.find_master(master.id),
        lambda: use_cases.masters.delete_master(master.id),
        lambda: use_cases.masters.update_master(master.id, "new", None),
    ):
        with pytest.raises(NotFound, match=f"There is no master {master.id}"):
            call()


def test_a_part_of_the_bytes_can_be_read(use_cases: UseCases, master: Master) -> None:
    part = b"".join(use_cases.masters.read_content(master, 2, 5))
    assert part == colours(1)[2:7]
    assert use_cases.masters.link_content(master, "inline") is None  # local files have no URL


@pytest.mark.parametrize("read", ["read_verified", "read_content", "make_thumbnail"])
def test_missing_bytes_are_unavailable_and_of_a_deleted_master_not_found(
    use_cases: UseCases, master: Master, read: str
) -> None:
    arguments: dict[str, Any] = {"read_content": (0, 5), "make_thumbnail": (64,)}
    use_cases.stores.objects.delete(master.object_key)
    with pytest.raises(Unavailable, match="not in the object store") as caught:
        getattr(use_cases.masters, read)(master, *arguments.get(read, ()))
    assert (caught.value.code, caught.value.retry_after) == ("object-missing", 60)
    use_cases.masters.delete_master(master.id)
    with pytest.raises(NotFound):
        getattr(use_cases.masters, read)(master, *arguments.get(read, ()))


def test_wrong_bytes_are_never_returned_as_verified(use_cases: UseCases, master: Master) -> None:
    use_cases.stores.objects.put(
        master.object_key, io.BytesIO(b"x" * master.size), master.size, "image/png", "x"
    )
    with pytest.raises(Unavailable, match="are not those that were uploaded") as caught:
        use_cases.masters.read_verified(master)
    assert caught.value.code == "object-damaged"


def test_a_thumbnail_fits_and_is_made_once(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnail = use_cases.masters.make_thumbnail(master, 32)
    image = Image.open(io.BytesIO(thumbnail))
    assert (image.format, image.size) == ("JPEG", (32, 24))
    monkeypatch.setattr(use_cases.stores.objects, "read", raising(DOWN))
    assert use_cases.masters.make_thumbnail(master, 32) == thumbnail


def test_a_thumbnail_larger_than_the_cache_is_not_cached(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases.vision, "make_thumbnail", lambda *_: b"x" * 200_000)
    assert len(use_cases.masters.make_thumbnail(master, 32)) == 200_000
    monkeypatch.setattr(use_cases.vision, "make_thumbnail", lambda *_: b"small")
    assert use_cases.masters.make_thumbnail(master, 32) == b"small"


def test_an_unknown_master_is_not_found(use_cases: UseCases) -> None:
    with pytest.raises(NotFound):
        use_cases.masters.find_master(uuid4())
