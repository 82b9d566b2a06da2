"""Scans for near-identical masters, on stores in memory."""

from __future__ import annotations

import io
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from app.errors import Busy, InvalidInput, NotFound
from app.services import duplicate_comparison, duplicate_scanning, duplicates, found_groups
from app.services.duplicates import CERTAINTY, SIZE, ScanState, ShownGroup
from app.services.found_groups import GroupPosition
from app.settings import Settings
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Decision, DuplicateScan, Stores
from storage.records import LOOK, new_id
from tests.support.use_cases import (
    DOWN,
    FakeClock,
    TinyEmbedder,
    UseCases,
    build_use_cases,
    colours,
    raising,
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    for module in (duplicate_comparison, duplicate_scanning, duplicates, found_groups):
        monkeypatch.setattr(module, "time", clock)
    return clock


def copy_of(seed: int, side: int = 96) -> bytes:
    """Return the picture ``colours(seed)`` in another size, as a JPEG."""
    output = io.BytesIO()
    Image.open(io.BytesIO(colours(seed))).resize((side, side)).save(output, "JPEG", quality=90)
    return output.getvalue()


def upload(use_cases: UseCases, *contents: bytes, collection: str = "default") -> list[UUID]:
    return [use_cases.upload(content, collection).master.id for content in contents]


def start(use_cases: UseCases, other: str | None = None, distance: float | None = 2) -> ScanState:
    return use_cases.duplicates.start_scan("default", other, LOOK, distance)


def state(use_cases: UseCases, other: str | None = None) -> ScanState:
    return use_cases.duplicates.find_scan("default", other, LOOK)


def finish(use_cases: UseCases, clock: FakeClock, other: str | None = None) -> ScanState:
    """Run the worker's steps until the scan is complete."""
    for _ in range(100):
        use_cases.scanning.run_step()
        clock.now += 2
        found = state(use_cases, other)
        if found.is_complete:
            return found
    raise AssertionError("the scan does not end")


def groups(use_cases: UseCases, other: str | None = None) -> list[ShownGroup]:
    page = use_cases.duplicates.list_groups("default", other, LOOK, SIZE, 100, None)
    assert page.next_after is None
    return page.groups


def members(use_cases: UseCases, other: str | None = None) -> list[set[UUID]]:
    return [{each.master.id for each in group.members} for group in groups(use_cases, other)]


def test_copies_are_found_and_other_pictures_are_not(use_cases: UseCases, clock: FakeClock) -> None:
    a, a2, b, b2, _ = upload(use_cases, colours(1), copy_of(1), colours(2), copy_of(2), colours(3))
    begun = start(use_cases)
    assert (begun.checked, begun.total, begun.pairs, begun.is_complete) == (0, 5, 0, False)
    done = finish(use_cases, clock)
    assert (done.checked, done.total, done.pairs) == (5, 5, 2)
    assert sorted(members(use_cases), key=min) == sorted([{a, a2}, {b, b2}], key=min)
    (group, _) = groups(use_cases)
    representative, other = group.members
    assert (representative.common, representative.distance) == (None, None)
    assert group.id == representative.master.id
    assert other.common == group.certainty >= 15
    assert 0 <= (other.distance or 0) <= 2


def test_starting_wakes_the_worker_which_does_it(use_cases: UseCases, clock: FakeClock) -> None:
    ids = upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    assert use_cases.wake.is_set()
    assert use_cases.worker.run_round()
    assert not use_cases.worker.run_round()
    assert state(use_cases).is_complete
    assert members(use_cases) == [set(ids)]
    assert not use_cases.stores.metadata.is_leased("duplicates")


def test_starting_again_resumes(use_cases: UseCases, clock: FakeClock) -> None:
    upload(use_cases, colours(1), copy_of(1))
    first = start(use_cases)
    finish(use_cases, clock)
    again = start(use_cases, distance=None)
    assert (again.scan.id, again.checked, again.is_complete) == (first.scan.id, 2, False)
    assert again.scan.max_distance == 2
    finish(use_cases, clock)
    assert start(use_cases, distance=0.5).scan.id != first.scan.id


def test_the_distance_has_a_default(use_cases: UseCases) -> None:
    assert start(use_cases, distance=None).scan.max_distance == 0.65


def test_only_the_near_ones_are_compared(use_cases: UseCases, clock: FakeClock) -> None:
    upload(use_cases, colours(1), copy_of(1))
    start(use_cases, distance=0.0)
    assert finish(use_cases, clock).pairs == 0


def test_a_later_upload_is_compared_when_it_is_indexed(
    use_cases: UseCases, clock: FakeClock
) -> None:
    (first,) = upload(use_cases, colours(1))
    start(use_cases)
    finish(use_cases, clock)
    (later,) = upload(use_cases, copy_of(1))
    assert use_cases.scanning.run_step()
    assert members(use_cases) == [{first, later}]


def test_a_scan_is_not_complete_while_masters_wait_to_be_indexed(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, later = upload(use_cases, colours(1), copy_of(1))
    use_cases.stores.metadata.update_master(later, name="new.jpg", attributes=None)
    start(use_cases)
    for _ in range(3):
        use_cases.scanning.run_step()
        clock.now += 2
    assert (state(use_cases).checked, state(use_cases).is_complete) == (1, False)
    while use_cases.worker.run_round():
        clock.now += 2
    assert finish(use_cases, clock).checked == 2
    assert members(use_cases) == [{first, later}]


def test_two_collections_are_compared_with_each_other_only(
    use_cases: UseCases, clock: FakeClock
) -> None:
    (a, _) = upload(use_cases, colours(1), copy_of(1))
    (b, c) = upload(use_cases, copy_of(1, 80), colours(2), collection="other")
    start(use_cases, "other")
    assert finish(use_cases, clock, "other").checked == 4
    assert state(use_cases, "other").other.name == "other"
    pairs = use_cases.stores.metadata.list_pairs(state(use_cases, "other").scan.id, 10, None)
    sides = {(UUID(bytes=each.first), UUID(bytes=each.second)) for each in pairs}
    assert len(sides) == 2
    assert all(b in pair for pair in sides)
    assert a in set().union(*members(use_cases, "other"))
    assert c not in set().union(*members(use_cases, "other"))


def test_the_same_bytes_in_two_collections_are_duplicates_whatever_they_show(
    use_cases: UseCases, clock: FakeClock
) -> None:
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(plain, "PNG")
    (a,) = upload(use_cases, plain.getvalue())
    (b,) = upload(use_cases, plain.getvalue(), collection="other")
    start(use_cases, "other")
    finish(use_cases, clock, "other")
    assert members(use_cases, "other") == [{a, b}]


def test_deleted_masters_leave_their_groups(use_cases: UseCases, clock: FakeClock) -> None:
    ids = upload(use_cases, colours(1), copy_of(1), copy_of(1, 80))
    start(use_cases)
    finish(use_cases, clock)
    assert members(use_cases) == [set(ids)]
    use_cases.masters.delete_master(ids[0])
    assert members(use_cases) == [set(ids[1:])]
    use_cases.masters.delete_master(ids[1])
    assert members(use_cases) == []


def test_decisions_take_masters_out_of_groups(use_cases: UseCases, clock: FakeClock) -> None:
    a, b, c = upload(use_cases, colours(1), copy_of(1), copy_of(1, 80))
    start(use_cases)
    finish(use_cases, clock)
    assert members(use_cases) == [{a, b, c}]
    assert use_cases.duplicates.decide([a, b, c], Decision.DIFFERENT) == 3
    assert members(use_cases) == []
    assert use_cases.duplicates.withdraw([a, b]) == 1
    assert members(use_cases) == [{a, b}]
    page, after = use_cases.duplicates.list_decisions("default", 1, None)
    rest, end = use_cases.duplicates.list_decisions("default", 1, after)
    assert len(page) == len(rest) == 1
    assert end is None
    assert {each.masters for each in page + rest} == {
        tuple(sorted((a, c))),
        tuple(sorted((b, c))),
    }


def test_nothing_is_decided_about_unknown_masters(use_cases: UseCases) -> None:
    (a,) = upload(use_cases, colours(1))
    with pytest.raises(NotFound) as caught:
        use_cases.duplicates.decide([a, new_id()], Decision.KEEP)
    assert caught.value.code == "master-not-found"
    for wrong in ([a, a], [new_id() for _ in range(101)]):
        with pytest.raises(InvalidInput):
            use_cases.duplicates.decide(wrong, Decision.KEEP)
        with pytest.raises(InvalidInput):
            use_cases.duplicates.withdraw(wrong)


def test_groups_are_listed_a_page_at_a_time_in_either_order(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found_groups, "_CHUNK", 2)
    monkeypatch.setattr(found_groups, "_PAIRS", 2)
    for seed in range(4):
        upload(use_cases, colours(seed), copy_of(seed))
    upload(use_cases, copy_of(2, 80))
    start(use_cases)
    finish(use_cases, clock)

    def walk(order: Any) -> list[ShownGroup]:
        found: list[ShownGroup] = []
        after: GroupPosition | None = None
        while True:
            page = use_cases.duplicates.list_groups("default", None, LOOK, order, 1, after)
            found += page.groups
            after = page.next_after
            if after is None:
                return found

    by_size, by_certainty = walk(SIZE), walk(CERTAINTY)
    assert len({group.id for group in by_size}) == len(by_size) == 4
    assert [len(group.members) for group in by_size] == [3, 2, 2, 2]
    certainties = [group.certainty for group in by_certainty]
    assert certainties == sorted(certainties, reverse=True)
    assert {group.id for group in by_certainty} == {group.id for group in by_size}
    every = use_cases.duplicates.iterate_groups("default", None, LOOK)
    assert [each.id for each in every] == [each.id for each in by_size]


def test_a_page_of_large_groups_has_fewer(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_MOST_MEMBERS", 2)
    for seed in range(2):
        upload(use_cases, colours(seed), copy_of(seed))
    start(use_cases)
    finish(use_cases, clock)
    page = use_cases.duplicates.list_groups("default", None, LOOK, SIZE, 10, None)
    assert len(page.groups) == 1
    rest = use_cases.duplicates.list_groups("default", None, LOOK, SIZE, 10, page.next_after)
    assert (len(rest.groups), rest.next_after) == (1, None)


def test_groups_are_computed_once_while_nothing_changes(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    finish(use_cases, clock)
    assert members(use_cases) == [set(ids)]
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.stores.metadata, "list_pairs", raising(AssertionError()))
        assert members(use_cases) == [set(ids)]
    upload(use_cases, copy_of(1, 80))
    finish(use_cases, clock)
    use_cases.scanning.run_step()
    assert [len(each) for each in members(use_cases)] == [3]


def test_groups_of_a_running_scan_are_kept_for_a_while(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    compute = found_groups.group_pairs

    def compute_slowly(*arguments: Any) -> Any:
        clock.now += 2
        return compute(*arguments)

    monkeypatch.setattr(found_groups, "group_pairs", compute_slowly)
    assert members(use_cases) == []
    use_cases.scanning.run_step()
    assert members(use_cases) == []
    clock.now += 20
    assert len(members(use_cases)) == 1


def test_groups_to_resolve_obey_what_other_processes_have_just_decided(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    use_cases.scanning.run_step()
    compute = found_groups.group_pairs

    def compute_slowly(*arguments: Any) -> Any:
        clock.now += 2
        return compute(*arguments)

    monkeypatch.setattr(found_groups, "group_pairs", compute_slowly)
    assert members(use_cases) == [set(ids)]
    use_cases.stores.metadata.save_decisions(ids, Decision.DIFFERENT)
    assert list(use_cases.duplicates.iterate_groups("default", None, LOOK)) == []


def test_many_groups_that_nobody_sees_any_more_are_computed_again(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found_groups, "_MOST_HIDDEN", 1)
    firsts = []
    for seed in range(3):
        firsts += upload(use_cases, colours(seed), copy_of(seed))[:1]
    start(use_cases)
    finish(use_cases, clock)
    assert len(members(use_cases)) == 3
    for master_id in firsts[:2]:
        use_cases.masters.delete_master(master_id)
    assert len(members(use_cases)) == 1
    walked = use_cases.duplicates._found.walk(state(use_cases).scan, SIZE, None)
    assert [len(chunk) for chunk in walked] == [1]


def test_an_ended_scan_is_gone_and_its_decisions_stay(
    use_cases: UseCases, clock: FakeClock
) -> None:
    ids = upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    scan = finish(use_cases, clock).scan
    use_cases.duplicates.decide(ids, Decision.KEEP)
    use_cases.duplicates.end_scan("default", None, LOOK)
    for call in (use_cases.duplicates.find_scan, use_cases.duplicates.end_scan):
        with pytest.raises(NotFound) as caught:
            call("default", None, LOOK)
        assert caught.value.code == "scan-not-found"
    assert use_cases.scanning.run_step()
    assert not use_cases.scanning.run_step()
    metadata = use_cases.stores.metadata
    assert metadata.count_pairs(scan.id) == metadata.count_checked(scan.id, "model-1") == 0
    start(use_cases)
    finish(use_cases, clock)
    assert members(use_cases) == []


def test_collections_and_spaces_must_exist(use_cases: UseCases) -> None:
    upload(use_cases, colours(1))
    with pytest.raises(NotFound):
        use_cases.duplicates.start_scan("default", "missing", LOOK, None)
    with pytest.raises(InvalidInput) as caught:
        use_cases.duplicates.start_scan("default", None, "missing", None)
    assert caught.value.code == "space-not-found"


def test_another_space_has_no_default_distance(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1))
    monkeypatch.setattr(use_cases.models, "active_version", lambda _: "model-1")
    with pytest.raises(InvalidInput) as caught:
        use_cases.duplicates.start_scan("default", None, "words", None)
    assert "words" in caught.value.detail


def test_a_collection_that_is_deleted_meanwhile_is_not_scanned(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1), collection="other")
    found = use_cases.stores.metadata.find_collection
    kept = found("other")
    use_cases.collections.delete_collection("other")
    monkeypatch.setattr(
        use_cases.stores.metadata,
        "find_collection",
        lambda name: kept if name == "other" else found(name),
    )
    use_cases.upload(colours(2))
    with pytest.raises(NotFound) as caught:
        start(use_cases, "other")
    assert caught.value.code == "collection-not-found"


def test_a_step_ends_before_it_holds_up_the_other_duties(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, *map(colours, range(6)))
    start(use_cases)
    decode = use_cases.vision.decode_inputs

    def take_long(*arguments: Any, **named: Any) -> Any:
        clock.now += 0.2
        return decode(*arguments, **named)

    monkeypatch.setattr(use_cases.vision, "decode_inputs", take_long)
    begun = clock.now
    assert use_cases.scanning.run_step()
    assert clock.now - begun < 0.8
    assert state(use_cases).checked == 0
    ids = [
        master.id for master in use_cases.masters.list_masters("default", None, 10, None, 0).masters
    ]
    assert len(use_cases.stores.metadata.find_features(ids, 1)) == 3  # they are kept
    finish(use_cases, clock)
    assert state(use_cases).checked == 6


def test_a_worker_that_stops_saves_what_it_has(use_cases: UseCases) -> None:
    upload(use_cases, *map(colours, range(4)))
    start(use_cases)
    answers = iter([False, False, True])
    assert use_cases.scanning.run_step(lambda: next(answers))
    assert state(use_cases).checked == 2


def test_the_rate_is_bounded(
    settings: Settings, stores: Stores, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_scanning, "_BATCH", 1)
    slow = settings.model_copy(update={"duplicate_rate": 2.0})
    use_cases = build_use_cases(slow, stores, TinyEmbedder("model-1"), raising(AssertionError()))
    upload(use_cases, *map(colours, range(2)))
    start(use_cases)
    assert use_cases.scanning.run_step()  # two files are read, and one master compared
    clock.now += 1.4
    assert not use_cases.scanning.run_step()
    clock.now += 0.2
    assert use_cases.scanning.run_step()
    use_cases.models.stop()


def test_one_process_compares_at_a_time(use_cases: UseCases, clock: FakeClock) -> None:
    upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    metadata = use_cases.stores.metadata
    assert metadata.acquire_lease("duplicates", "another", 60)
    assert not use_cases.scanning.run_step()
    metadata.release_lease("duplicates", "another")
    assert not use_cases.scanning.run_step()
    assert finish(use_cases, clock).checked == 2


@pytest.mark.parametrize("error", [ObjectMissing("key"), ValueError("odd")])
def test_a_file_that_cannot_be_read_has_no_duplicates(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    monkeypatch.setattr(use_cases.stores.objects, "read", raising(error))
    assert finish(use_cases, clock).pairs == 0


def test_an_outage_of_the_object_store_ends_the_step(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, *map(colours, range(5)))
    start(use_cases)
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.stores.objects, "read", raising(DOWN))
        with pytest.raises(StoreUnavailable):
            use_cases.scanning.run_step()
        assert not use_cases.scanning.run_step()
    assert finish(use_cases, clock).checked == 5


def test_an_object_that_is_down_delays_its_masters_only(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, copy = upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    read, key = use_cases.stores.objects.read, use_cases.masters.find_master(first).object_key

    def fail_once(its_key: str, *bounds: int) -> Any:
        if its_key == key:
            raise DOWN
        return read(its_key, *bounds)

    with monkeypatch.context() as patch:
        patch.setattr(use_cases.stores.objects, "read", fail_once)
        for _ in range(3):
            use_cases.scanning.run_step()
            clock.now += 2
        assert not state(use_cases).is_complete
    clock.now += 5
    finish(use_cases, clock)
    assert members(use_cases) == [{first, copy}]


def test_a_process_that_cannot_decode_waits(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1), copy_of(1))
    start(use_cases)
    with monkeypatch.context() as patch:
        patch.setattr(use_cases.vision, "decode_inputs", raising(Busy("too-busy", "Full.")))
        use_cases.scanning.run_step()
    assert not use_cases.scanning.run_step()
    clock.now += 5
    assert use_cases.scanning.run_step()
    assert state(use_cases).checked == 2


def test_a_master_without_its_vector_is_left_out(use_cases: UseCases, clock: FakeClock) -> None:
    first, _ = upload(use_cases, colours(1), copy_of(1))
    use_cases.stores.vectors.delete("model-1", [first])
    start(use_cases)
    done = finish(use_cases, clock)
    assert (done.checked, done.total, done.pairs) == (1, 2, 0)


def test_masters_deleted_during_a_step_are_left_out(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = upload(use_cases, *map(colours, range(3)))
    start(use_cases)
    search = use_cases.stores.vectors.search

    def delete_first(*arguments: Any) -> Any:
        for master_id in ids:
            use_cases.stores.metadata.delete_master(master_id)
        return search(*arguments)

    monkeypatch.setattr(use_cases.stores.vectors, "search", delete_first)
    assert finish(use_cases, clock).checked == 0


def test_the_rest_of_the_time_is_told_from_the_speed(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_scanning, "_BATCH", 1)
    upload(use_cases, *map(colours, range(4)))
    assert start(use_cases).eta is None
    use_cases.scanning.run_step()
    clock.now += 3
    assert state(use_cases).eta == 9.0
    clock.now += 60
    assert state(use_cases).eta is None
    assert finish(use_cases, clock).eta is None


def test_a_space_that_lost_its_version_is_skipped(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1))
    start(use_cases)
    monkeypatch.setattr(use_cases.stores.registry, "find_active", lambda _: None)
    assert not use_cases.scanning.run_step()


def test_scans_take_turns(use_cases: UseCases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_scanning, "_BATCH", 1)
    upload(use_cases, *map(colours, range(3)))
    upload(use_cases, colours(9), collection="other")
    start(use_cases)
    start(use_cases, "other")
    for _ in range(2):
        use_cases.scanning.run_step()
    assert (state(use_cases).checked, state(use_cases, "other").checked) == (1, 1)


def test_masters_of_any_age_are_visited_now_and_then(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(use_cases, colours(1))
    start(use_cases)
    finish(use_cases, clock)
    visited = []
    find = use_cases.stores.metadata.list_unchecked

    def note(scan: UUID, version: str, collection: UUID, after: UUID | None, limit: int) -> Any:
        visited.append(after)
        return find(scan, version, collection, after, limit)

    monkeypatch.setattr(use_cases.stores.metadata, "list_unchecked", note)
    use_cases.scanning.run_step()
    assert len(visited) == 1
    assert visited[0] is not None
    clock.now += 700
    use_cases.scanning.run_step()
    assert visited[1:] == [None]


def test_many_scans_are_visited_less_often(
    use_cases: UseCases, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_scanning, "_POLL_OF_EACH", 30.0)
    upload(use_cases, colours(1))
    start(use_cases)
    finish(use_cases, clock)
    visited: list[UUID] = []
    find = use_cases.stores.metadata.list_unchecked

    def note(*arguments: Any) -> Any:
        visited.append(arguments[0])
        return find(*arguments)

    monkeypatch.setattr(use_cases.stores.metadata, "list_unchecked", note)
    for expected in (0, 1):
        use_cases.scanning.run_step()
        assert len(visited) == expected
        clock.now += 29


def test_a_scan_of_one_collection_names_it_once() -> None:
    one = new_id()
    scan = DuplicateScan(new_id(), one, one, LOOK, 0.65, 0, 0, None)
    assert scan.collection_ids == [one]
