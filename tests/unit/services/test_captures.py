"""Capture metadata is read at the upload, and by the worker afterwards."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from app.errors import Busy
from app.services import captures as captures_module
from app.settings import Settings
from models.capture.reading import READER
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from storage.records import Master, VectorRecord
from tests.support.metadata import PHONE, PHONE_EXIF, jpeg_with
from tests.support.use_cases import (
    DOWN,
    FakeClock,
    TinyEmbedder,
    UseCases,
    build_use_cases,
    colours,
    raising,
)

PHOTOGRAPH = jpeg_with(exif=PHONE_EXIF)
WITHOUT_GPS = {name: value for name, value in PHONE.items() if name != "gps"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(captures_module, "time", clock)
    return clock


def read(use_cases: UseCases, master: Master) -> Master:
    return use_cases.masters.find_master(master.id)


def store_as_before(use_cases: UseCases, *contents: bytes) -> list[Master]:
    """Upload files, and make the database what an earlier release left: nothing was read."""
    masters = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.services.ingest.READER", 0)
        decode = use_cases.vision.decode_image

        def decode_alone(file: Any, purpose: Any, **_: Any) -> Any:
            return decode(file, purpose)

        patch.setattr(use_cases.vision, "decode_image", decode_alone)
        for number, content in enumerate(contents):
            attributes = {"n": number}
            masters.append(use_cases.upload(content, attributes=attributes).master)
    assert {master.capture for master in masters} == {None}
    return masters


def vector_of(use_cases: UseCases, master: Master) -> VectorRecord:
    return use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]


def test_an_upload_is_stored_with_what_it_says_of_itself(use_cases: UseCases) -> None:
    said, silent = use_cases.upload(PHOTOGRAPH).master, use_cases.upload(colours(1)).master
    assert (said.capture, said.capture_reader) == (PHONE, READER)
    assert (silent.capture, silent.capture_reader) == ({}, READER)
    assert use_cases.captures.count_unread() == 0
    assert vector_of(use_cases, said).attributes["capture"] == PHONE


@pytest.fixture
def without_gps(settings: Settings, stores: Stores) -> Iterator[UseCases]:
    changed = settings.model_copy(update={"keep_gps": False})
    built = build_use_cases(changed, stores, TinyEmbedder("model-1"), raising(AssertionError()))
    yield built
    built.models.stop()


def test_the_position_is_not_stored_if_the_setting_says_so(without_gps: UseCases) -> None:
    assert without_gps.upload(PHOTOGRAPH).master.capture == WITHOUT_GPS
    (old,) = store_as_before(without_gps, jpeg_with(b"\xff\xfe\x00\x03x", exif=PHONE_EXIF))
    without_gps.captures.read_batch()
    assert read(without_gps, old).capture == WITHOUT_GPS


def test_a_changed_setting_applies_to_all_once_they_are_read_again(
    use_cases: UseCases, without_gps: UseCases
) -> None:
    master = use_cases.upload(PHOTOGRAPH).master
    assert without_gps.captures.reread() == 1
    assert read(use_cases, master).capture == PHONE  # until it has been read
    assert without_gps.worker.run_round()
    assert read(use_cases, master).capture == WITHOUT_GPS


def test_the_worker_reads_what_an_earlier_release_stored(use_cases: UseCases) -> None:
    masters = store_as_before(use_cases, PHOTOGRAPH, colours(1))
    assert use_cases.captures.count_unread() == 2
    for _ in range(3):
        use_cases.worker.run_round()
    assert use_cases.captures.count_unread() == 0
    said, silent = (read(use_cases, master) for master in masters)
    assert (said.capture, silent.capture) == (PHONE, {})
    assert (said.attributes, said.revision) == ({"n": 0}, 2)
    assert use_cases.collections.count_pending_embeddings() == 0
    for master in (said, silent):
        vector = vector_of(use_cases, master)
        assert (vector.attributes, vector.revision) == (master.indexed_fields, 2)
    assert use_cases.embedder.calls == 2  # at the uploads: no picture is embedded again
    assert not use_cases.worker.run_round()


def test_names_and_attributes_become_nfc(use_cases: UseCases) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    loose = unicodedata.normalize("NFD", "café")
    metadata = use_cases.stores.metadata
    metadata.update_master(master.id, name=loose, attributes={loose: loose})
    use_cases.captures.read_batch()
    assert (read(use_cases, master).name, read(use_cases, master).attributes) == (
        "café",
        {"café": "café"},
    )


def test_attributes_whose_keys_would_become_one_stay_as_they_are(use_cases: UseCases) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    both = {"café": 1, unicodedata.normalize("NFD", "café"): 2}
    use_cases.stores.metadata.update_master(master.id, name=None, attributes=both)
    use_cases.captures.read_batch()
    assert read(use_cases, master).attributes == both
    assert read(use_cases, master).capture == PHONE


def test_a_name_that_the_normal_form_makes_longer_is_cut_to_what_the_column_holds(
    use_cases: UseCases,
) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    name = "\u0958" * 255  # each becomes two characters in NFC
    use_cases.stores.metadata.update_master(master.id, name=name, attributes=None)
    use_cases.captures.read_batch()
    assert read(use_cases, master).capture == PHONE
    assert read(use_cases, master).name == "\u0915\u093c" * 127


def lose_object(use_cases: UseCases, master: Master) -> None:
    use_cases.stores.objects.delete(master.object_key)


def damage_object(use_cases: UseCases, master: Master) -> None:
    content = io.BytesIO(colours(5))
    size = len(colours(5))
    use_cases.stores.objects.put(master.object_key, content, size, master.mime, master.name)


@pytest.mark.parametrize("break_object", [lose_object, damage_object])
def test_a_file_that_is_lost_or_damaged_says_nothing_and_is_not_read_again(
    use_cases: UseCases, break_object: Any
) -> None:
    broken, other = store_as_before(use_cases, PHOTOGRAPH, colours(1))
    break_object(use_cases, broken)
    use_cases.captures.read_batch()
    assert (read(use_cases, broken).capture, read(use_cases, other).capture) == ({}, {})
    assert use_cases.captures.count_unread() == 0


@pytest.mark.parametrize("break_object", [lose_object, damage_object])
def test_what_a_file_said_is_kept_if_it_cannot_be_read_again(
    use_cases: UseCases, break_object: Any
) -> None:
    master = use_cases.upload(PHOTOGRAPH).master
    break_object(use_cases, master)
    use_cases.captures.reread()
    use_cases.captures.read_batch()
    assert use_cases.captures.count_unread() == 0
    assert read(use_cases, master).capture == PHONE


def test_the_position_of_a_file_that_cannot_be_read_again_is_dropped_if_the_setting_says_so(
    use_cases: UseCases, without_gps: UseCases
) -> None:
    master = use_cases.upload(PHOTOGRAPH).master
    lose_object(use_cases, master)
    without_gps.captures.reread()
    without_gps.captures.read_batch()
    assert read(without_gps, master).capture == WITHOUT_GPS


def test_a_file_that_is_restored_is_read_again(use_cases: UseCases, clock: FakeClock) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    lose_object(use_cases, master)
    use_cases.captures.read_batch()
    use_cases.stores.metadata.mark_damaged(master.id)
    assert use_cases.upload(PHOTOGRAPH).master.id == master.id
    assert read(use_cases, master).capture == {}
    clock.now += 1
    use_cases.worker.run_round()
    use_cases.worker.run_round()
    assert read(use_cases, master).capture == PHONE


def test_a_file_whose_reading_fails_in_an_unknown_way_says_nothing(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    monkeypatch.setattr(use_cases.vision, "read_capture", raising(ValueError("a fault")))
    assert use_cases.captures.read_batch()
    assert read(use_cases, master).capture == {}


def test_while_the_object_store_is_down_nothing_is_saved(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = store_as_before(use_cases, PHOTOGRAPH, *map(colours, range(4)))
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.stores.objects, "read", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            use_cases.captures.read_batch()
        assert not use_cases.captures.read_batch()  # it waits
    assert use_cases.captures.count_unread() == 5
    assert not use_cases.stores.metadata.is_leased("captures")
    for _ in range(3):
        clock.now += 5
        use_cases.captures.read_batch()
    assert read(use_cases, masters[0]).capture == PHONE
    assert use_cases.captures.count_unread() == 0


def test_objects_that_the_store_never_gives_hold_up_no_other(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = store_as_before(use_cases, *map(colours, range(8)))
    read_object = use_cases.stores.objects.read
    refused = {master.object_key for master in masters[:5]}

    def refuse(key: str, *given: Any) -> Any:
        if key in refused:
            raise DOWN
        return read_object(key, *given)

    monkeypatch.setattr(use_cases.stores.objects, "read", refuse)
    for _ in range(3):
        with suppress(StoreUnavailable):
            use_cases.captures.read_batch()
        clock.now += 10
    assert use_cases.captures.count_unread() == 5


def test_one_object_that_the_store_does_not_give_holds_up_no_other(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = store_as_before(use_cases, PHOTOGRAPH, *map(colours, range(4)))
    read_object = use_cases.stores.objects.read
    refused = {master.object_key for master in masters[:2]}

    def refuse(key: str, *given: Any) -> Any:
        if key in refused:
            raise DOWN
        return read_object(key, *given)

    monkeypatch.setattr(use_cases.stores.objects, "read", refuse)
    use_cases.captures.read_batch()
    assert use_cases.captures.count_unread() == 2
    for _ in range(3):  # it is tried again now and then
        clock.now += 10
        use_cases.captures.read_batch()
    refused.clear()
    for _ in range(3):
        clock.now += 10
        use_cases.captures.read_batch()
    assert use_cases.captures.count_unread() == 0
    assert read(use_cases, masters[0]).capture == PHONE


def test_many_such_objects_are_tried_again_in_turns(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_as_before(use_cases, *map(colours, range(6)))
    monkeypatch.setattr(captures_module, "_MAX_SKIPPED", 3)
    monkeypatch.setattr(captures_module, "_BATCH", 2)
    monkeypatch.setattr(use_cases.stores.objects, "read", raising(DOWN))
    tried = set()
    for _ in range(20):
        use_cases.captures.read_batch()
        tried |= use_cases.captures._skipped
        assert len(use_cases.captures._skipped) <= 5
        clock.now += 10
    assert use_cases.captures.count_unread() == 6
    assert len(tried) == 6


def test_a_process_that_cannot_decode_waits(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_as_before(use_cases, PHOTOGRAPH)
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.vision, "read_capture", raising(Busy("too-busy", "Full.")))
        assert not use_cases.captures.read_batch()
    assert not use_cases.captures.read_batch()
    clock.now += 5
    assert use_cases.captures.read_batch()


def test_a_master_that_is_changed_while_its_file_is_read_is_read_again(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (master,) = store_as_before(use_cases, PHOTOGRAPH)
    read_capture = use_cases.vision.read_capture

    def change(source: Any) -> Any:
        use_cases.masters.update_master(master.id, "new.jpg", None, None)
        return read_capture(source)

    with monkeypatch.context() as patch:
        patch.setattr(use_cases.vision, "read_capture", change)
        use_cases.captures.read_batch()
    assert (read(use_cases, master).name, read(use_cases, master).capture) == ("new.jpg", None)
    clock.now += 1
    use_cases.captures.read_batch()
    assert (read(use_cases, master).name, read(use_cases, master).capture) == ("new.jpg", PHONE)


def test_the_rate_is_bounded(
    settings: Settings, stores: Stores, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = settings.model_copy(update={"capture_rate": 2.0})
    use_cases = build_use_cases(slow, stores, TinyEmbedder("model-1"), raising(AssertionError()))
    store_as_before(use_cases, *map(colours, range(6)))
    monkeypatch.setattr(captures_module, "_BATCH", 4)
    assert use_cases.captures.read_batch()
    assert not use_cases.captures.read_batch()
    clock.now += 1.9
    assert not use_cases.captures.read_batch()
    clock.now += 0.1
    assert use_cases.captures.read_batch()
    assert use_cases.captures.count_unread() == 0
    use_cases.models.stop()


def test_a_step_ends_before_it_holds_up_the_other_duties(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_as_before(use_cases, *map(colours, range(6)))
    read_capture = use_cases.vision.read_capture

    def take_long(source: Any) -> Any:
        clock.now += 0.2
        return read_capture(source)

    monkeypatch.setattr(use_cases.vision, "read_capture", take_long)
    use_cases.captures.read_batch()
    assert use_cases.captures.count_unread() == 3


def test_a_worker_that_stops_saves_what_it_has_read(use_cases: UseCases) -> None:
    store_as_before(use_cases, *map(colours, range(4)))
    answers = iter([False, False, True])
    use_cases.captures.read_batch(lambda: next(answers))
    assert use_cases.captures.count_unread() == 2


def test_one_process_reads_at_a_time(use_cases: UseCases) -> None:
    store_as_before(use_cases, PHOTOGRAPH)
    metadata = use_cases.stores.metadata
    assert metadata.acquire_lease("captures", "another", 60)
    assert not use_cases.captures.read_batch()
    metadata.release_lease("captures", "another")
    assert use_cases.captures.read_batch()
    assert not metadata.is_leased("captures")


def test_indexing_goes_first(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = store_as_before(use_cases, PHOTOGRAPH)
    waiting = use_cases.upload(colours(1)).master
    use_cases.stores.metadata.update_master(waiting.id, name=None, attributes={})
    use_cases.worker.run_round()
    assert read(use_cases, old).capture is None
    use_cases.worker.run_round()
    assert read(use_cases, old).capture == PHONE


def test_nothing_is_read_while_the_database_may_be_outdated(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = store_as_before(use_cases, PHOTOGRAPH)
    monkeypatch.setattr("app.services.database_doubt.DatabaseDoubt.exists", lambda _: True)
    use_cases.worker.run_round()
    assert read(use_cases, old).capture is None


def test_reading_again_goes_through_all_in_batches(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        use_cases.upload(colours(seed))
    monkeypatch.setattr(captures_module, "_FORGET_BATCH", 2)
    assert use_cases.captures.reread() == 5
    assert use_cases.wake.is_set()
    revisions = [master.revision for master in use_cases.stores.metadata.list_unread(READER, 10)]
    use_cases.worker.run_round()
    assert use_cases.captures.count_unread() == 0
    assert revisions == [1] * 5  # nothing changed, so nothing is indexed again
    assert use_cases.collections.count_pending_embeddings() == 0


def test_the_metrics_show_how_many_are_unread(use_cases: UseCases) -> None:
    store_as_before(use_cases, PHOTOGRAPH)
    assert b"lookalike_unread_masters 1.0" in use_cases.metrics.exposition()
