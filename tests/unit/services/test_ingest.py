"""Uploads: duplicates, competing uploads, failures of the stores, and what is indexed inline."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import Any

import pytest
from PIL import Image

from app.errors import Busy, InvalidInput, TooLarge, Unavailable
from app.services import ingest as ingest_module
from app.services.ingest import _LeaseRenewingFile
from app.services.near_duplicates import NearCheck
from app.settings import Settings
from models.decoding import jobs
from models.imaging import ImageRejected
from storage.errors import CollectionGone, StoreUnavailable
from storage.records import NewMaster
from tests.support.images import encoded
from tests.support.use_cases import DOWN, FakeClock, UseCases, colours, raising


def new_master(content: bytes) -> NewMaster:
    digest = hashlib.sha256(content).digest()
    return NewMaster(digest, len(content), "image/png", "png", 64, 48, "other", {})


def uploads(use_cases: UseCases, outcome: str) -> float:
    labels = {"outcome": outcome}
    return use_cases.metrics.registry.get_sample_value("lookalike_uploads_total", labels) or 0.0


def test_an_upload_stores_the_bytes_and_is_indexed(use_cases: UseCases) -> None:
    content = colours(1)
    outcome = use_cases.upload(content, attributes={"colour": "red"})
    assert (outcome.created, outcome.indexed) == (True, True)
    master = outcome.master
    assert (master.width, master.height, master.mime) == (64, 48, "image/png")
    assert b"".join(use_cases.stores.objects.read(master.object_key)) == content
    assert master.id in use_cases.stores.vectors.fetch_vectors("model-1", [master.id])
    assert uploads(use_cases, "created") == 1


def test_the_same_bytes_return_the_same_master(use_cases: UseCases) -> None:
    first = use_cases.upload(colours(1))
    again = use_cases.upload(colours(1), attributes={"ignored": True})
    assert (again.master.id, again.created, again.indexed) == (first.master.id, False, True)
    assert again.master.attributes == {}
    assert uploads(use_cases, "existing") == 1


def test_the_same_bytes_in_another_collection_are_another_master(use_cases: UseCases) -> None:
    first, second = use_cases.upload(colours(1)), use_cases.upload(colours(1), "cats")
    assert second.created
    assert second.master.id != first.master.id


def test_an_upload_goes_to_the_collection_that_has_the_name_now(use_cases: UseCases) -> None:
    """The id of the collection that an earlier upload went to is remembered."""
    use_cases.upload(colours(1), "cats")
    use_cases.collections.delete_collection("cats")
    new = use_cases.collections.create_collection("cats")
    assert use_cases.upload(colours(2), "cats").master.collection_id == new.id
    use_cases.collections.delete_collection("cats")
    newest = use_cases.upload(colours(2), "cats").master.collection_id
    assert newest != new.id
    assert use_cases.collections.find_collection("cats").id == newest


def test_a_bounded_number_of_collections_is_remembered(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "_MOST_KNOWN", 3)
    for number in range(10):
        use_cases.upload(colours(1), f"c{number}")
    assert len(use_cases.ingest._known) <= 3


def test_a_name_without_visible_characters_becomes_a_part_of_the_hash(use_cases: UseCases) -> None:
    content = colours(1)
    digest = hashlib.sha256(content).hexdigest()
    assert use_cases.upload(content, name="folder/\u200b").master.name == f"{digest[:12]}.png"


def test_what_is_rejected_is_counted_and_leaves_nothing(use_cases: UseCases) -> None:
    with pytest.raises(ImageRejected):
        use_cases.upload(b"no image")
    with pytest.raises(InvalidInput, match="name of a collection"):
        use_cases.upload(colours(1), collection="NO")
    with pytest.raises(InvalidInput) as caught:
        use_cases.upload(colours(1), attributes=["no", "object"])
    assert caught.value.code == "invalid-attributes"
    assert uploads(use_cases, "rejected") == 3
    assert list(use_cases.stores.objects.list("")) == []
    assert use_cases.collections.list_collections() == []


def test_a_file_over_the_limit_is_rejected(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: Settings = use_cases.settings.model_copy(update={"max_file_bytes": 10})
    monkeypatch.setattr(use_cases.ingest, "_settings", small)
    with pytest.raises(TooLarge, match="Send a smaller version"):
        use_cases.upload(colours(1))


def test_a_failed_write_abandons_the_row(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(use_cases.stores.objects, "put", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            use_cases.upload(colours(1))
    assert use_cases.stores.metadata.count_unfinished() == 1  # to delete
    assert use_cases.stores.metadata.expire_reservations() == 0  # nothing holds a lease any more
    assert use_cases.upload(colours(1)).created


def test_a_vector_store_that_is_down_leaves_indexing_to_the_worker(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(use_cases.stores.vectors, "upsert", raising(DOWN))
        outcome = use_cases.upload(colours(1))
    assert (outcome.created, outcome.indexed) == (True, False)
    assert not use_cases.upload(colours(1)).indexed
    assert use_cases.worker.run_round()
    assert use_cases.upload(colours(1)).indexed


def test_an_upload_waits_for_another_one_of_the_same_bytes(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    content = colours(1)
    metadata = use_cases.stores.metadata
    collection = use_cases.collections.find_collection("default")
    other = metadata.reserve_master(collection.id, new_master(content), "other", 60.0)
    monkeypatch.setattr(ingest_module, "time", clock)

    def finish(seconds: float) -> None:
        FakeClock.sleep(clock, seconds)
        if len(clock.slept) == 3:
            metadata.commit_stored(other.master.id, "other", [], 60.0)

    monkeypatch.setattr(clock, "sleep", finish)
    outcome = use_cases.upload(content)
    assert (outcome.master.id, outcome.created) == (other.master.id, False)
    assert clock.slept == sorted(clock.slept)


def test_an_upload_that_waited_too_long_is_to_be_retried(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    collection = use_cases.collections.find_collection("default")
    use_cases.stores.metadata.reserve_master(collection.id, new_master(colours(1)), "other", 600.0)
    monkeypatch.setattr(ingest_module, "time", clock)
    with pytest.raises(Unavailable, match="in progress") as caught:
        use_cases.upload(colours(1))
    assert (caught.value.code, caught.value.retry_after) == ("upload-in-progress", 5)
    assert 3.0 <= sum(clock.slept) < 4.0
    assert max(clock.slept) <= 0.5


def test_a_row_that_was_stored_meanwhile_is_returned(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = use_cases.upload(colours(1))
    monkeypatch.setattr(use_cases.stores.metadata, "find_by_hash", lambda *_: None)
    again = use_cases.upload(colours(1))
    assert (again.master.id, again.created) == (first.master.id, False)


def test_a_damaged_master_is_restored_by_its_bytes(use_cases: UseCases) -> None:
    master = use_cases.upload(colours(1)).master
    use_cases.stores.objects.delete(master.object_key)
    assert use_cases.stores.metadata.mark_damaged(master.id)
    restored = use_cases.upload(colours(1))
    assert (restored.master.id, restored.created) == (master.id, False)
    assert use_cases.masters.read_verified(master).getvalue() == colours(1)


def test_a_damaged_master_that_is_deleted_meanwhile_is_uploaded_anew(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = use_cases.stores.metadata
    master = use_cases.upload(colours(1)).master
    metadata.mark_damaged(master.id)
    monkeypatch.setattr(metadata, "restore_damaged", lambda id_: not metadata.delete_master(id_))
    outcome = use_cases.upload(colours(1))
    assert outcome.created
    assert outcome.master.id != master.id


def test_an_upload_whose_collection_is_deleted_meanwhile_goes_to_a_new_one(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = use_cases.stores.metadata
    commit, commits = metadata.commit_stored, []

    def delete_before_commit(*arguments: Any) -> Any:
        commits.append(arguments)
        if len(commits) == 1:
            metadata.delete_collection("cats")
        return commit(*arguments)

    monkeypatch.setattr(metadata, "commit_stored", delete_before_commit)
    outcome = use_cases.upload(colours(1), "cats")
    assert (outcome.created, len(commits)) == (True, 2)
    assert use_cases.masters.find_master(outcome.master.id).collection == "cats"


def test_a_collection_that_is_deleted_before_the_row_is_reserved_is_created_again(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = use_cases.stores.metadata
    reserve, errors = metadata.reserve_master, [CollectionGone()]

    def reserve_later(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return reserve(*arguments)

    monkeypatch.setattr(metadata, "reserve_master", reserve_later)
    assert use_cases.upload(colours(1), "cats").created


def test_a_slow_object_store_renews_the_lease(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr(ingest_module, "time", clock)
    renewed: list[float] = []
    file = _LeaseRenewingFile(io.BytesIO(b"abcdef"), 10.0, lambda: renewed.append(clock.now))
    assert file.read(1) == b"a"
    clock.now += 11
    assert file.read(1) == b"b"
    assert file.read(1) == b"c"
    assert len(renewed) == 1
    assert (file.tell(), file.seek(0), file.read()) == (3, 0, b"abcdef")


def test_bytes_that_arrive_after_the_worker_removed_the_row_are_removed(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object store was so slow that the lease expired, and the worker cleaned up."""
    objects, metadata = use_cases.stores.objects, use_cases.stores.metadata
    put = objects.put

    def put_too_late(*arguments: Any) -> None:
        monkeypatch.setattr(objects, "put", put)
        (row,) = metadata._tables.masters.values()
        row.until = 0
        while use_cases.worker.run_round():
            pass
        put(*arguments)

    monkeypatch.setattr(objects, "put", put_too_late)
    outcome = use_cases.upload(colours(1))
    assert outcome.created
    assert [each.key for each in objects.list("masters")] == [outcome.master.object_key]


def test_concurrent_uploads_of_the_same_bytes_get_one_id(use_cases: UseCases) -> None:
    outcomes: list[Any] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(use_cases.upload(colours(1))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({outcome.master.id for outcome in outcomes}) == 1
    assert sum(outcome.created for outcome in outcomes) == 1


def test_the_input_of_local_features_needs_no_second_decode(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    decode = jobs.decode_image

    def record(*arguments: Any, **options: Any) -> Any:
        decoded.append(options["min_side"])
        return decode(*arguments, **options)

    monkeypatch.setattr(jobs, "decode_image", record)
    use_cases.upload(colours(1), near_check=NearCheck(rejects=True))
    assert len(decoded) == 1


def test_a_picture_without_corners_has_no_near_duplicates(use_cases: UseCases) -> None:
    grey, brighter = (encoded(Image.new("RGB", (64, 48), (v, v, v))) for v in (100, 101))
    use_cases.upload(grey)
    outcome = use_cases.upload(brighter, near_check=NearCheck(rejects=True, max_distance=2.0))
    assert (outcome.created, outcome.near_duplicates) == (True, [])


def test_an_image_cannot_be_checked_by_a_model_it_was_not_decoded_for(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases.models, "active_version", lambda: "model-2")
    with pytest.raises(Unavailable) as caught:
        use_cases.upload(colours(1), near_check=NearCheck(rejects=False))
    assert caught.value.code == "model-not-loaded"
    assert use_cases.masters.list_masters("default", None, 1, None).total == 0


def test_near_duplicates_are_not_looked_for_while_decoding_is_overloaded(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cases.upload(colours(1))
    monkeypatch.setattr(use_cases.vision, "decode_inputs", raising(Busy("too-busy", "Wait.")))
    with pytest.raises(Busy):
        use_cases.upload(colours(1, (96, 72)), near_check=NearCheck(rejects=False))
    assert uploads(use_cases, "created") == 1
