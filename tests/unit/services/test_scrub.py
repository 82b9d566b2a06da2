"""Scrubs: every kind of finding, what is repaired, and what is never touched."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from app.services import scrub as scrub_module
from app.services.encoder_files import encoder_key
from app.services.scrub_report import KINDS, ScrubReport
from storage.errors import StoreUnavailable
from storage.records import Master, MasterState, VectorRecord, new_id, whole_image
from tests.support.use_cases import DOWN, TODAY, FakeClock, UseCases, colours, raising


@pytest.fixture
def master(use_cases: UseCases) -> Master:
    return use_cases.upload(colours(1)).master


def scrub(use_cases: UseCases, *, repair: bool = False, full: bool = True) -> ScrubReport:
    *_, report = use_cases.scrub.run_scrub(repair=repair, full=full)
    assert set(report.found) <= set(KINDS)
    return report


def write(use_cases: UseCases, key: str, content: bytes) -> None:
    use_cases.stores.objects.put(key, io.BytesIO(content), len(content), "image/png", "a")


def state(use_cases: UseCases, master: Master) -> MasterState:
    return use_cases.stores.metadata.find_records([master.id])[master.id].master.state


def test_an_intact_installation_is_clean(use_cases: UseCases, master: Master) -> None:
    write(use_cases, encoder_key("added"), b"weights that are not started")
    report = scrub(use_cases)
    assert report.clean
    assert (report.masters, report.hashed, report.objects, report.vectors) == (1, 1, 2, 1)
    assert report.checked == 4


@pytest.mark.parametrize("content", [None, b"short", "same size"])
def test_lost_or_wrong_bytes_damage_the_master(
    use_cases: UseCases, master: Master, content: Any
) -> None:
    kind = "object-missing" if content is None else "object-wrong"
    if content is None:
        use_cases.stores.objects.delete(master.object_key)
    else:
        wrong = b"x" * master.size if content == "same size" else content
        write(use_cases, master.object_key, wrong)
    report = scrub(use_cases)
    assert (report.found, report.repaired) == ({kind: 1}, {})
    assert report.examples == {kind: [str(master.id)]}
    assert state(use_cases, master) is MasterState.STORED
    assert scrub(use_cases, repair=True).repaired == {kind: 1}
    assert state(use_cases, master) is MasterState.DAMAGED
    assert scrub(use_cases).found == {kind: 1}  # it stays a finding until it is uploaded again


def test_a_damaged_master_whose_bytes_are_right_is_healed(
    use_cases: UseCases, master: Master
) -> None:
    use_cases.stores.metadata.mark_damaged(master.id)
    assert scrub(use_cases).found == {"healed": 1}
    assert state(use_cases, master) is MasterState.DAMAGED
    assert scrub(use_cases, repair=True).repaired == {"healed": 1}
    assert scrub(use_cases).clean
    assert state(use_cases, master) is MasterState.STORED


def test_a_damage_that_is_repaired_meanwhile_is_no_finding(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = use_cases.stores.objects
    objects.delete(master.object_key)
    stat = objects.stat

    def upload_after_first_check(key: str) -> Any:
        monkeypatch.setattr(objects, "stat", stat)
        try:
            return stat(key)
        finally:
            write(use_cases, key, colours(1))

    monkeypatch.setattr(objects, "stat", upload_after_first_check)
    assert scrub(use_cases).clean


def test_an_object_that_cannot_be_read_is_reported_and_left(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = use_cases.stores.objects.read

    def fail_for_master(key: str) -> Iterator[bytes]:
        if key == master.object_key:
            raise DOWN
        return read(key)

    monkeypatch.setattr(use_cases.stores.objects, "read", fail_for_master)
    report = scrub(use_cases, repair=True)
    assert (report.found, report.repaired) == ({"object-unreadable": 1}, {})
    assert state(use_cases, master) is MasterState.STORED


def test_several_unreadable_objects_in_a_row_end_the_scrub(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        use_cases.upload(colours(seed))
    monkeypatch.setattr(use_cases.stores.objects, "read", raising(DOWN))
    with pytest.raises(StoreUnavailable):
        scrub(use_cases)


def test_a_daily_scrub_reads_every_object_once_in_thirty_days(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    for seed in range(3):
        use_cases.upload(colours(seed))
    monkeypatch.setattr(scrub_module, "time", clock)
    hashed = []
    for _ in range(30):
        hashed.append(scrub(use_cases, full=False).hashed)
        clock.now += 86_400
    assert sum(hashed) == 3


def test_a_missing_vector_is_embedded_again(use_cases: UseCases, master: Master) -> None:
    use_cases.stores.vectors.delete("model-1", [master.id])
    assert scrub(use_cases).found == {"vector-missing": 1}
    report = scrub(use_cases, repair=True)
    assert (report.repaired, report.waiting) == ({"vector-missing": 1}, 1)
    assert scrub(use_cases).clean  # the embedding is pending
    use_cases.worker.run_round()
    assert list(use_cases.stores.vectors.fetch_vectors("model-1", [master.id])) == [master.id]


def test_a_vector_with_other_attributes_is_written_again(
    use_cases: UseCases, master: Master
) -> None:
    vectors = use_cases.stores.vectors
    right = vectors.fetch_vectors("model-1", [master.id])[master.id]
    outdated = VectorRecord(
        master.id, master.collection_id, right.parts, {"old": 1}, right.revision
    )
    vectors.upsert("model-1", [outdated])
    assert scrub(use_cases, repair=True).repaired == {"vector-outdated": 1}
    use_cases.worker.run_round()
    assert vectors.fetch_vectors("model-1", [master.id])[master.id].attributes == right.attributes
    assert scrub(use_cases).clean


def test_a_master_that_changes_during_the_check_is_no_finding(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = use_cases.stores.metadata
    use_cases.stores.vectors.delete("model-1", [master.id])
    find, calls = metadata.find_records, []

    def change_meanwhile(ids: Any) -> Any:
        calls.append(ids)
        if len(calls) == 2:
            metadata.update_master(master.id, name="new", attributes=None)
        return find(ids)

    monkeypatch.setattr(metadata, "find_records", change_meanwhile)
    assert scrub(use_cases, repair=True).clean


def test_an_old_object_without_a_row_is_put_into_quarantine(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = master.object_key.replace(str(master.id), str(new_id()))
    write(use_cases, key, b"left over")
    assert scrub(use_cases, repair=True).clean  # it may belong to an upload in progress
    monkeypatch.setattr(use_cases.scrub._unknown, "_grace", 0.0)
    assert scrub(use_cases).found == {"object-unknown": 1}
    assert scrub(use_cases, repair=True).repaired == {"object-unknown": 1}
    kept = f"quarantine/{TODAY}/{key}"
    assert [info.key for info in use_cases.stores.objects.list("")] == [master.object_key, kept]
    assert scrub(use_cases, repair=True).clean


def test_foreign_objects_are_reported_and_never_removed(
    use_cases: UseCases, master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_cases.scrub._unknown, "_grace", 0.0)
    elsewhere = master.object_key.replace("masters/default", "masters/moved")
    for key in ("notes/readme.txt", elsewhere):
        write(use_cases, key, b"somebody's")
    report = scrub(use_cases, repair=True)
    assert (report.found, report.repaired) == ({"object-foreign": 2}, {})
    assert len(list(use_cases.stores.objects.list(""))) == 3


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("listed", ["objects", "vectors"])
def test_a_master_deleted_after_it_was_listed_is_no_finding(
    use_cases: UseCases,
    master: Master,
    monkeypatch: pytest.MonkeyPatch,
    listed: str,
    repair: bool,
) -> None:
    monkeypatch.setattr(use_cases.scrub._unknown, "_grace", 0.0)
    store = getattr(use_cases.stores, listed)
    method = {"objects": "list", "vectors": "iterate_ids"}[listed]
    listing = getattr(store, method)

    def delete_once_listed(*arguments: Any) -> Any:
        items = list(listing(*arguments))
        if items:
            use_cases.masters.delete_master(master.id)
            use_cases.worker.run_round()
        return iter(items)

    monkeypatch.setattr(store, method, delete_once_listed)
    assert scrub(use_cases, repair=repair).clean
    assert list(listing(*{"objects": ("",), "vectors": ("model-1",)}[listed])) == []


def test_a_vector_without_a_master_is_removed(use_cases: UseCases, master: Master) -> None:
    vector = np.eye(512, dtype=np.float32)[0]
    unknown = VectorRecord(uuid4(), master.collection_id, whole_image(vector), {}, 1)
    use_cases.stores.vectors.upsert("model-1", [unknown])
    assert scrub(use_cases).found == {"vector-unknown": 1}
    assert scrub(use_cases, repair=True).repaired == {"vector-unknown": 1}
    assert list(use_cases.stores.vectors.iterate_ids("model-1")) == [[master.id]]


def test_the_events_have_the_progress_and_then_the_report(
    use_cases: UseCases, master: Master
) -> None:
    *progress, last = use_cases.scrub.stream_scrub(repair=False, full=True)
    assert {event["total"] for event in progress} == {3}
    assert progress[-1]["looked_at"] == 3
    assert (last["report"]["clean"], last["report"]["masters"]) == (True, 1)


def test_the_metrics_have_the_findings_of_the_last_scrub(
    use_cases: UseCases, master: Master
) -> None:
    use_cases.stores.vectors.delete("model-1", [master.id])
    for expected in (1.0, 0.0):
        scrub(use_cases, repair=True)
        value = use_cases.metrics.registry.get_sample_value(
            "lookalike_scrub_findings", {"kind": "vector-missing"}
        )
        assert value == expected


def test_a_report_shows_the_first_twenty_examples_of_a_kind() -> None:
    report = ScrubReport(repair=True)
    for number in range(25):
        report.add_finding("object-missing", number, repaired=number < 3)
    shown = report.as_json()
    assert (shown["found"], shown["repaired"]) == ({"object-missing": 25}, {"object-missing": 3})
    assert shown["examples"] == {"object-missing": [str(number) for number in range(20)]}
    assert not shown["clean"]
