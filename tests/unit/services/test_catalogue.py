"""The catalogue: what a pass writes, what it leaves alone, and what stops it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from app.services import catalogue as catalogue_module
from app.services import catalogue_schedule
from app.services.catalogue import CATALOGUE_LEASE, Catalogue, CatalogueRefused, CatalogueReport
from app.services.catalogue_decisions import DECISIONS_KEY, read_decisions
from app.services.catalogue_files import (
    CatalogueDamaged,
    parse_chunk_key,
    read_chunk,
    read_index,
    write_index,
)
from app.services.catalogue_schedule import ScheduledCatalogue
from storage.errors import StoreUnavailable
from storage.protocols import Decision, Stores
from storage.records import Master
from tests.support.decisions import decisions_of
from tests.support.use_cases import DOWN, FakeClock, UseCases, colours, raising


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "_ROWS", 3)
    monkeypatch.setattr(catalogue_module, "_BATCH", 2)


def upload(use_cases: UseCases, count: int, first: int = 0, **fields: Any) -> list[Master]:
    seeds = range(first, first + count)
    return [use_cases.upload(colours(seed, (8, 8)), **fields).master for seed in seeds]


def write(stores: Stores, **options: Any) -> CatalogueReport:
    """Run a pass, and return what it did."""
    *_, report = Catalogue(stores).write(**options)
    return report


def chunks(stores: Stores) -> list[str]:
    return sorted(
        info.key for info in stores.objects.list("catalogue/") if parse_chunk_key(info.key)
    )


def rows(stores: Stores) -> list[Master]:
    found = [each for key in chunks(stores) for each in read_chunk(stores.objects, key)]
    return sorted(found, key=lambda each: each.id)


def masters_of(stores: Stores) -> list[Master]:
    return [record.master for record in stores.metadata.list_records(None, 1000)]


def test_every_row_is_in_the_catalogue_exactly(use_cases: UseCases) -> None:
    stores = use_cases.stores
    upload(use_cases, 4, name="räume \N{CAT FACE}.png", attributes={"n": 0.1, "s": "ü", "l": ["a"]})
    upload(use_cases, 2, collection="cats")
    use_cases.collections.create_collection("empty")
    stores.metadata.mark_damaged(masters_of(stores)[0].id)
    report = write(stores)
    assert (report.masters, report.chunks, report.written, report.removed) == (6, 3, 3, 0)
    assert rows(stores) == masters_of(stores)
    index = read_index(stores.objects)
    assert index is not None
    assert index.collections == [each for each, _ in stores.metadata.list_collections()]
    assert index.active == {"look": "model-1"}
    assert sorted(index.chunks) == chunks(stores)


def test_a_pass_without_a_change_writes_no_chunk(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, 5)
    write(use_cases.stores)
    monkeypatch.setattr(use_cases.stores.metadata, "find_records", raising(AssertionError()))
    assert write(use_cases.stores).written == 0


@pytest.mark.parametrize("change", ["new", "change", "delete", "damage", "lost chunk"])
def test_one_change_writes_one_chunk(use_cases: UseCases, change: str) -> None:
    stores = use_cases.stores
    masters = upload(use_cases, 8)
    write(stores)
    if change == "new":
        upload(use_cases, 1, first=20)
    elif change == "change":
        use_cases.masters.update_master(masters[1].id, "new", {"a": 1})
    elif change == "delete":
        use_cases.masters.delete_master(masters[0].id)  # the id that its chunk begins with
    elif change == "damage":
        stores.metadata.mark_damaged(masters[4].id)
    else:
        stores.objects.delete(chunks(stores)[1])
    assert write(stores).written == 1
    assert rows(stores) == masters_of(stores)
    assert write(stores).written == 0


def test_chunks_and_collections_without_masters_disappear(use_cases: UseCases) -> None:
    stores = use_cases.stores
    masters = upload(use_cases, 9)
    upload(use_cases, 1, collection="cats")
    write(stores)
    for master in masters[3:6]:
        use_cases.masters.delete_master(master.id)
    use_cases.collections.delete_collection("cats")
    assert write(stores).removed == 2
    assert rows(stores) == masters_of(stores)
    assert len(chunks(stores)) == 2


def test_a_chunk_that_grows_in_the_middle_is_split(use_cases: UseCases, stores: Stores) -> None:
    upload(use_cases, 6)
    write(stores)
    record = stores.metadata.list_records(None, 1)[0]
    late = [
        replace(
            record.master,
            id=type(record.master.id)(int=record.master.id.int + number),
            sha256=bytes([number]) * 32,
        )
        for number in range(1, 8)
    ]
    stores.metadata.import_records([replace(record, master=each) for each in late])
    written: list[str] = []
    put = stores.objects.put

    def note(key: str, *rest: Any) -> None:
        written.append(key)
        put(key, *rest)
        if key in chunks(stores):  # whenever the writer is killed, no row is lost
            assert {each.id for each in rows(stores)} >= before

    before = {each.id for each in rows(stores)}
    stores.objects.put = note  # type: ignore[method-assign]
    assert write(stores).chunks == 3
    assert rows(stores) == masters_of(stores)
    assert [each for each in written if parse_chunk_key(each)] == chunks(stores)[1::-1]


@pytest.mark.parametrize("steps", range(6))
def test_a_pass_that_stops_at_any_step_is_completed_by_the_next(
    use_cases: UseCases, steps: int
) -> None:
    stores = use_cases.stores
    masters = upload(use_cases, 7)
    write(stores)
    use_cases.masters.delete_master(masters[0].id)
    use_cases.masters.update_master(masters[4].id, "new", None)
    upload(use_cases, 2, first=20)
    before = len(rows(stores))
    passing = Catalogue(stores).write()
    for _ in range(steps):
        next(passing, None)
    del passing
    assert len(rows(stores)) >= before - 1
    write(stores)
    assert rows(stores) == masters_of(stores)


def has_file(stores: Stores) -> bool:
    return DECISIONS_KEY in {info.key for info in stores.objects.list("catalogue/")}


def test_decisions_are_written_exactly_and_only_if_they_changed(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = use_cases.stores
    ids = [master.id for master in upload(use_cases, 3)]
    stores.metadata.save_decisions(ids, Decision.DIFFERENT)
    stores.metadata.save_decisions(ids[:2], Decision.KEEP)
    assert write(stores).decisions == 3
    assert list(read_decisions(stores.objects)) == decisions_of(stores.metadata)
    with monkeypatch.context() as patch:
        patch.setattr(catalogue_module, "write_decisions", raising(AssertionError()))
        assert write(stores).decisions == 3
    stores.objects.delete(DECISIONS_KEY)
    write(stores)
    stores.metadata.remove_decisions(ids[:2])
    assert write(stores).decisions == 2
    assert list(read_decisions(stores.objects)) == decisions_of(stores.metadata)
    assert write(stores).written == 0


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_without_decisions_there_is_no_file(use_cases: UseCases, is_interrupted: bool) -> None:
    stores = use_cases.stores
    ids = [master.id for master in upload(use_cases, 2)]
    write(stores)
    assert not has_file(stores)
    stores.metadata.save_decisions(ids, Decision.KEEP)
    for report in Catalogue(stores).write():
        if is_interrupted and report.decisions and has_file(stores):
            break  # before the index is written
    assert has_file(stores)
    stores.metadata.remove_decisions(ids)
    write(stores)
    assert not has_file(stores)


def test_an_index_of_an_earlier_release_has_no_decisions(use_cases: UseCases) -> None:
    write(use_cases.stores)
    content = json.loads(b"".join(use_cases.stores.objects.read("catalogue/index.json")))
    del content["decisions"]
    text = json.dumps(content).encode()
    use_cases.stores.objects.put(
        "catalogue/index.json", io.BytesIO(text), len(text), "application/json", "index.json"
    )
    index = read_index(use_cases.stores.objects)
    assert index is not None
    assert index.decisions == ""


def test_what_is_deleted_during_a_pass_is_gone_after_the_next(use_cases: UseCases) -> None:
    master, *_ = upload(use_cases, 4, collection="cats")
    passing = Catalogue(use_cases.stores).write()
    next(passing)
    use_cases.masters.delete_master(master.id)
    use_cases.collections.delete_collection("cats")
    list(passing)
    assert master.id not in {each.id for each in rows(use_cases.stores)}
    write(use_cases.stores)
    assert chunks(use_cases.stores) == []


@pytest.mark.parametrize("state", ["lost", "older", "index damaged"])
def test_the_catalogue_of_another_database_is_left_alone(
    use_cases: UseCases, other_stores: Stores, state: str
) -> None:
    stores = use_cases.stores
    upload(use_cases, 4)
    write(stores)
    database = other_stores
    if state == "older":
        write(Stores(database.metadata, database.registry, other_stores.objects, stores.vectors))
        index = read_index(stores.objects)
        assert index is not None
        write_index(stores.objects, replace(index, mark=index.mark + 3_600_000))
    elif state == "index damaged":
        database = stores
        stores.objects.put("catalogue/index.json", io.BytesIO(b"[]"), 2, "", "")
    wrong = Stores(database.metadata, database.registry, stores.objects, stores.vectors)
    before = rows(stores)
    with pytest.raises(CatalogueRefused, match="lookalike recover"):
        write(wrong)
    assert rows(stores) == before
    write(wrong, replace_other=True)
    assert rows(stores) == masters_of(wrong)
    write(wrong)


def test_a_damaged_chunk_is_named(use_cases: UseCases) -> None:
    upload(use_cases, 1)
    write(use_cases.stores)
    objects = use_cases.stores.objects
    (key,) = chunks(use_cases.stores)
    content = b"".join(objects.read(key))
    for wrong in (content[:-9], b"no gzip", content[:12] + b"?" + content[13:]):
        objects.put(key, io.BytesIO(wrong), len(wrong), "", "")
        with pytest.raises(CatalogueDamaged, match=key):
            list(read_chunk(objects, key))


def test_the_index_is_plain_json(use_cases: UseCases) -> None:
    write(use_cases.stores)
    content = b"".join(use_cases.stores.objects.read("catalogue/index.json"))
    assert json.loads(content)["format"] == 1


@pytest.fixture
def scheduled(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> ScheduledCatalogue:
    monkeypatch.setattr(catalogue_schedule, "time", clock)
    monkeypatch.setattr(catalogue_module, "time", clock)
    return ScheduledCatalogue(use_cases.stores, 3600.0)


def run_for(scheduled: ScheduledCatalogue, clock: FakeClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.now += 1.0
        assert scheduled.run_step() is False


def at_of(stores: Stores) -> int:
    return Catalogue(stores).find_last_pass()


def test_the_worker_writes_once_per_interval(
    use_cases: UseCases, scheduled: ScheduledCatalogue, clock: FakeClock
) -> None:
    stores = use_cases.stores
    upload(use_cases, 5)
    run_for(scheduled, clock, 59)
    assert at_of(stores) == 0
    run_for(scheduled, clock, 30)
    first = at_of(stores)
    assert rows(stores) == masters_of(stores)
    other = ScheduledCatalogue(stores, 3600.0)  # another worker
    run_for(other, clock, 3000)
    assert at_of(stores) == first
    run_for(other, clock, 900)
    assert at_of(stores) > first
    assert not stores.metadata.is_leased(CATALOGUE_LEASE)


def test_one_worker_writes_at_a_time_and_errors_end_the_pass(
    use_cases: UseCases,
    scheduled: ScheduledCatalogue,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = use_cases.stores
    upload(use_cases, 5)
    stores.metadata.acquire_lease(CATALOGUE_LEASE, "another", 1000.0)
    run_for(scheduled, clock, 300)
    assert at_of(stores) == 0
    stores.metadata.release_lease(CATALOGUE_LEASE, "another")
    with monkeypatch.context() as patched:
        patched.setattr(stores.metadata, "list_revisions", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            run_for(scheduled, clock, 120)
    assert not stores.metadata.is_leased(CATALOGUE_LEASE)
    run_for(scheduled, clock, 120)
    assert at_of(stores) > 0


def test_a_catalogue_that_is_refused_is_tried_again_later(
    use_cases: UseCases, scheduled: ScheduledCatalogue, clock: FakeClock
) -> None:
    stores = use_cases.stores
    stores.objects.put("catalogue/index.json", io.BytesIO(b"{"), 1, "", "")
    run_for(scheduled, clock, 200)
    write(stores, replace_other=True)
    run_for(scheduled, clock, 3600)
    assert at_of(stores) > clock.now * 1000 - 3_700_000


def test_an_interval_of_zero_never_writes(use_cases: UseCases) -> None:
    assert ScheduledCatalogue(use_cases.stores, 0.0).run_step() is False
    assert at_of(use_cases.stores) == 0
