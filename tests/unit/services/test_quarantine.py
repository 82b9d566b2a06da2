"""What a repair may remove, what stops it, and how quarantine keeps it."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from app.services import database_doubt
from app.services.catalogue import Catalogue
from app.services.removed_objects import QUARANTINE_PREFIX, RemovedObjects, RestoreRefused
from app.services.scrub_report import ScrubReport
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import Master, NewMaster, VectorRecord, new_id, whole_image
from tests.support.memory_stores import open_memory_stores
from tests.support.use_cases import DOWN, TODAY, FakeClock, UseCases, colours, raising

KEY = "masters/default/a (1).png"
PLACE = f"quarantine/{TODAY}/{KEY}"


@pytest.fixture
def quarantine(stores: Stores) -> RemovedObjects:
    return RemovedObjects(stores.objects, QUARANTINE_PREFIX)


@pytest.fixture
def master(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> Master:
    monkeypatch.setattr(use_cases.scrub._unknown, "_grace", 0.0)
    return use_cases.upload(colours(1)).master


def put(stores: Stores, key: str, content: bytes = b"x") -> None:
    stores.objects.put(key, io.BytesIO(content), len(content), "image/png", "a")


def content_of(stores: Stores) -> dict[str, bytes]:
    objects = stores.objects
    return {info.key: b"".join(objects.read(info.key)) for info in objects.list("")}


def add_unknown_objects(use_cases: UseCases, master: Master, count: int) -> list[str]:
    keys = [master.object_key.replace(str(master.id), str(new_id())) for _ in range(count)]
    for key in keys:
        put(use_cases.stores, key, key.encode())
    return keys


def add_unknown_vectors(use_cases: UseCases, master: Master, count: int) -> list[UUID]:
    vector = np.eye(512, dtype=np.float32)[0]
    records = [
        VectorRecord(new_id(), master.collection_id, whole_image(vector), {}, 1)
        for _ in range(count)
    ]
    use_cases.stores.vectors.upsert("model-1", records)
    return [record.master_id for record in records]


def lose_rows(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the database by an empty one."""
    empty = open_memory_stores().metadata
    for name in ("find_records", "list_records", "find_lease_end", "list_collections"):
        monkeypatch.setattr(use_cases.stores.metadata, name, getattr(empty, name))


def fail_to_read(use_cases: UseCases, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = use_cases.stores.objects.read

    def fail(wanted: str, *given: Any) -> Any:
        return raising(DOWN)() if wanted == key else read(wanted, *given)

    monkeypatch.setattr(use_cases.stores.objects, "read", fail)


def repair(use_cases: UseCases, **options: Any) -> ScrubReport:
    *_, report = use_cases.scrub.run_scrub(repair=True, full=True, **options)
    return report


def metric(use_cases: UseCases) -> float | None:
    return use_cases.metrics.registry.get_sample_value("lookalike_scrub_refused")


# what is kept
def test_an_object_moves_to_quarantine_and_back(stores: Stores, quarantine: RemovedObjects) -> None:
    put(stores, KEY, b"abc")
    assert quarantine.move(KEY)
    assert not quarantine.move(KEY)
    assert content_of(stores) == {PLACE: b"abc"}
    (removed,) = quarantine.list()
    assert (removed.place, removed.key, removed.day, removed.size) == (PLACE, KEY, TODAY, 3)
    quarantine.restore(removed)
    assert content_of(stores) == {KEY: b"abc"}
    with pytest.raises(ObjectMissing):
        quarantine.restore(removed)


def test_other_bytes_in_quarantine_stay(stores: Stores, quarantine: RemovedObjects) -> None:
    for content in (b"one", b"two", b"one", b"three"):
        put(stores, KEY, content)
        quarantine.move(KEY)
    second, third = (f"quarantine/{TODAY}-{number}/{KEY}" for number in (2, 3))
    assert content_of(stores) == {PLACE: b"one", second: b"two", third: b"three"}
    assert {each.key for each in quarantine.list()} == {KEY}


def test_a_restored_object_never_replaces_other_bytes(
    stores: Stores, quarantine: RemovedObjects
) -> None:
    put(stores, KEY, b"old")
    quarantine.move(KEY)
    put(stores, KEY, b"new")
    (removed,) = quarantine.list()
    with pytest.raises(RestoreRefused, match="other bytes"):
        quarantine.restore(removed)
    assert content_of(stores) == {PLACE: b"old", KEY: b"new"}


def test_a_move_that_is_killed_is_completed_by_the_next(
    stores: Stores, quarantine: RemovedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stores, KEY, b"abc")
    with monkeypatch.context() as patched:
        patched.setattr(stores.objects, "delete", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            quarantine.move(KEY)
        assert content_of(stores) == {KEY: b"abc", PLACE: b"abc"}
    quarantine.move(KEY)
    assert content_of(stores) == {PLACE: b"abc"}
    (removed,) = quarantine.list()
    with monkeypatch.context() as patched:
        patched.setattr(stores.objects, "delete", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            quarantine.restore(removed)
    quarantine.restore(removed)
    assert content_of(stores) == {KEY: b"abc"}


def test_what_lies_in_quarantine_by_other_hands_is_left_alone(
    stores: Stores, quarantine: RemovedObjects
) -> None:
    for place in ("notes.txt", "2026-13-45/masters/a", "2020-01-01", "2020-01-01-2/masters/a"):
        put(stores, f"quarantine/{place}")
    assert [each.key for each in quarantine.list()] == ["masters/a"]
    assert quarantine.expire(30) == 1
    assert len(content_of(stores)) == 3


# what a repair does
def test_a_repair_moves_what_it_does_not_know_to_quarantine(
    use_cases: UseCases, master: Master
) -> None:
    keys = add_unknown_objects(use_cases, master, 10)
    report = repair(use_cases)
    assert (report.repaired, report.refused) == ({"object-unknown": 10}, "")
    kept = {f"quarantine/{TODAY}/{key}": key.encode() for key in keys}
    assert content_of(use_cases.stores) == kept | {master.object_key: colours(1)}
    assert repair(use_cases).clean
    assert metric(use_cases) == 0


def test_a_repair_that_would_remove_too_much_changes_nothing(
    use_cases: UseCases, master: Master
) -> None:
    use_cases.stores.vectors.delete("model-1", [master.id])
    add_unknown_objects(use_cases, master, 11)
    before = content_of(use_cases.stores)
    report = repair(use_cases)
    assert (report.found, report.repaired) == ({"object-unknown": 11, "vector-missing": 1}, {})
    assert "11 of 12 originals" in report.refused
    assert "Nothing was changed" in report.refused
    assert "--allow-removal" in report.refused
    assert "lookalike recover" in report.refused
    assert not report.repair
    assert content_of(use_cases.stores) == before
    assert use_cases.collections.count_pending_embeddings() == 0
    assert metric(use_cases) == 1
    report = repair(use_cases, allow_removal=True)
    assert (report.repaired["object-unknown"], report.refused) == (11, "")
    assert metric(use_cases) == 0


def test_the_same_holds_for_vectors(use_cases: UseCases, master: Master) -> None:
    add_unknown_vectors(use_cases, master, 10)
    assert repair(use_cases).repaired == {"vector-unknown": 10}
    ids = add_unknown_vectors(use_cases, master, 11)
    report = repair(use_cases)
    assert (report.found, report.repaired) == ({"vector-unknown": 11}, {})
    assert "11 of 12 vectors of model-1" in report.refused
    assert use_cases.stores.vectors.fetch_vectors("model-1", ids).keys() == set(ids)
    assert repair(use_cases, allow_removal=True).repaired == {"vector-unknown": 11}


@pytest.mark.parametrize("what", ["object", "vector"])
def test_rows_that_disappear_during_a_repair_stop_it(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for seed in range(2, 14):
        use_cases.upload(colours(seed))
    scrub = use_cases.scrub.run_scrub(repair=True, full=True)
    report = next(scrub)
    while report.masters == 0:  # the survey, and then the rows
        report = next(scrub)
    lose_rows(use_cases, monkeypatch)
    if what == "vector":
        monkeypatch.setattr(use_cases.stores.objects, "list", lambda prefix: iter(()))
    *_, report = scrub
    assert "rows disappeared" in report.refused
    assert report.found[f"{what}-unknown"] == 13
    assert report.repaired[f"{what}-unknown"] == 10


@pytest.mark.parametrize("count", [1, 20])
def test_an_empty_database_removes_nothing(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for seed in range(2, count + 1):
        use_cases.upload(colours(seed))
    before = content_of(use_cases.stores)
    lose_rows(use_cases, monkeypatch)
    report = repair(use_cases, quarantine_days=1)
    assert f"has no masters, but the stores have {count} originals" in report.refused
    assert report.repaired == {}
    assert content_of(use_cases.stores) == before


def test_a_database_that_is_older_than_the_catalogue_removes_nothing(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_unknown_objects(use_cases, master, 1)
    list(Catalogue(use_cases.stores).write())
    put(use_cases.stores, f"quarantine/2020-01-01/{KEY}")
    before = content_of(use_cases.stores)
    with monkeypatch.context() as older:
        older.setattr(use_cases.stores.metadata, "find_lease_end", lambda name: None)
        report = repair(use_cases, quarantine_days=1)
        assert "older than the catalogue" in report.refused
        assert (report.repaired, report.expired) == ({}, 0)
        assert content_of(use_cases.stores) == before
    report = repair(use_cases, quarantine_days=1)
    assert (report.repaired, report.expired) == ({"object-unknown": 1}, 1)


def test_a_catalogue_that_cannot_be_read_stops_the_repair(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_unknown_objects(use_cases, master, 1)
    fail_to_read(use_cases, "catalogue/index.json", monkeypatch)
    report = repair(use_cases)
    assert "the catalogue" in report.refused
    assert report.repaired == {}


def test_a_damaged_catalogue_stops_no_repair(use_cases: UseCases, master: Master) -> None:
    put(use_cases.stores, "catalogue/index.json", b"{")
    add_unknown_objects(use_cases, master, 1)
    assert repair(use_cases).repaired == {"object-unknown": 1}


def test_an_object_that_cannot_be_read_is_not_removed(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,) = add_unknown_objects(use_cases, master, 1)
    fail_to_read(use_cases, key, monkeypatch)
    report = repair(use_cases)
    assert (report.found, report.repaired) == ({"object-unknown": 1}, {})


def test_a_scrub_expires_the_quarantine_after_a_number_of_days(
    use_cases: UseCases, master: Master
) -> None:
    days = [TODAY - timedelta(days=age) for age in (0, 30, 31)]
    for day in days:
        put(use_cases.stores, f"quarantine/{day}/{KEY}")
    assert repair(use_cases).expired == 0
    *_, report = use_cases.scrub.run_scrub(repair=False, full=False, quarantine_days=30)
    assert report.expired == 1
    kept = {f"quarantine/{day}/{KEY}" for day in days[:2]}
    assert content_of(use_cases.stores).keys() == kept | {master.object_key}


def test_the_progress_counts_the_survey(use_cases: UseCases, master: Master) -> None:
    *progress, last = use_cases.scrub.stream_scrub(repair=True, full=False)
    assert progress[-1] == {"looked_at": 5, "total": 5}
    assert last["report"]["surveyed"] == 2


# what the worker removes
def test_an_older_database_makes_the_worker_remove_nothing(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """The row of an upload under way was dumped; the upload was acknowledged after the dump."""
    stores, errors = use_cases.stores, []
    monkeypatch.setattr(database_doubt, "time", clock)
    monkeypatch.setattr(database_doubt.log, "error", lambda what, **named: errors.append(what))
    list(Catalogue(stores).write())
    new = NewMaster(b"x" * 32, 5, "image/png", "png", 64, 48, "a.png", {})
    later = stores.metadata.reserve_master(master.collection_id, new, "upload", 0.0).master
    put(stores, later.object_key, b"bytes")
    with monkeypatch.context() as older:
        older.setattr(stores.metadata, "find_lease_end", lambda name: None)
        for _ in range(3):
            use_cases.worker.run_round()
        clock.now += 60
        use_cases.worker.run_round()
        assert content_of(stores)[later.object_key] == b"bytes"
        assert errors == ["the worker removes nothing"]
    clock.now += 60
    while use_cases.worker.run_round():
        pass
    assert later.object_key not in content_of(stores)
