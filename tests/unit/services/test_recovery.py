"""Recoveries: what comes back, what stays deleted, and what is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from app.services import recovery as recovery_module
from app.services.catalogue import Catalogue, CatalogueRefused
from app.services.catalogue_decisions import DECISIONS_KEY
from app.services.catalogue_files import parse_chunk_key, read_index, write_index
from app.services.catalogue_rows import open_rows
from app.services.encoder_files import encoder_key
from app.services.installation_id import BucketRefused, claim_bucket
from app.services.mirroring import RemovalRefused
from app.services.recovery import Recovery, RecoveryCounts
from app.services.recovery_collections import RecoveryRefused
from models.weights_file import WeightsFile
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Decision, Stores
from storage.records import LOOK, Master, MasterRecord, MasterState, NewMaster, new_id
from tests.support.decisions import decisions_of
from tests.support.memory_stores import open_memory_stores
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import DOWN, UseCases, colours, raising

HOUR = 3_600_000  # milliseconds
Failures = list[tuple[str, str]]


@pytest.fixture
def failures() -> Failures:
    return []


@pytest.fixture
def masters(use_cases: UseCases) -> list[Master]:
    cats = [use_cases.upload(colours(seed), "cats", attributes={"n": seed}) for seed in range(2)]
    return [each.master for each in [*cats, use_cases.upload(colours(2))]]


def write_catalogue(stores: Stores) -> None:
    for _ in Catalogue(stores).write():
        pass


def date_catalogue(stores: Stores, hours: float) -> None:
    """Let the catalogue be of a later moment, so that originals are older than the grace."""
    index = read_index(stores.objects)
    assert index is not None
    write_index(stores.objects, replace(index, at=index.at + int(hours * HOUR)))


def with_database_of(stores: Stores, other: Stores) -> Stores:
    return Stores(other.metadata, other.registry, stores.objects, stores.vectors)


def lose_database(stores: Stores) -> Stores:
    """Return the stores with an empty database."""
    return with_database_of(stores, open_memory_stores())


def dump(stores: Stores) -> Stores:
    """Return the stores with a copy of the database as it is now."""
    copy = lose_database(stores)
    for collection, _ in stores.metadata.list_collections():
        copy.metadata.import_collection(collection)
    copy.metadata.import_records(stores.metadata.list_records(None, 1000))
    copy.registry.replace_active({model.space: model.id for model in stores.registry.list_models()})
    return copy


@contextmanager
def prepared(
    stores: Stores, failures: Failures, *, apply: bool = True, **options: Any
) -> Iterator[Recovery]:
    with open_rows() as rows:
        given: dict[str, Any] = {"allow_removal": False, "installed": "model-1"} | options
        yield Recovery(
            stores,
            rows,
            jobs=2,
            grace=3600.0,
            apply=apply,
            fail=lambda what, why: failures.append((what, why)),
            **given,
        )


def recover(stores: Stores, failures: Failures, **options: Any) -> RecoveryCounts:
    with prepared(stores, failures, **options) as recovery:
        recovery.prepare()
        return recovery.recover_masters(lambda _: None)


def masters_of(stores: Stores) -> list[Master]:
    return [record.master for record in stores.metadata.list_records(None, 1000)]


def put(stores: Stores, key: str, content: bytes) -> None:
    stores.objects.put(key, io.BytesIO(content), len(content), "image/png", "a")


def test_everything_comes_back_with_pending_embeddings(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    assert recover(lost, failures, apply=False) == RecoveryCounts(from_catalogue=3)
    assert masters_of(lost) == []
    assert lost.metadata.list_collections() == []
    assert lost.registry.list_models() == []
    assert recover(lost, failures) == RecoveryCounts(from_catalogue=3)
    assert masters_of(lost) == masters_of(use_cases.stores)
    assert lost.metadata.list_collections() == use_cases.stores.metadata.list_collections()
    assert lost.metadata.count_pending_embeddings() == 3
    assert lost.registry.find_active(LOOK) == "model-1"
    assert recover(lost, failures) == RecoveryCounts(present=3)
    assert failures == []
    write_catalogue(lost)  # it may be updated again


def test_decisions_about_duplicates_come_back(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    metadata = use_cases.stores.metadata
    metadata.save_decisions([master.id for master in masters], Decision.DIFFERENT)
    metadata.save_decisions([master.id for master in masters[1:]], Decision.KEEP)
    write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    use_cases.stores.objects.delete(masters[0].object_key)
    assert recover(lost, failures, apply=False).decisions == 3
    assert decisions_of(lost.metadata) == []
    counts = recover(lost, failures)
    assert counts == RecoveryCounts(from_catalogue=2, without_bytes=1, decisions=1)
    assert decisions_of(lost.metadata) == decisions_of(use_cases.stores.metadata)[2:]
    assert recover(lost, failures).decisions == 0


def test_a_dump_gets_the_later_decisions(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    metadata, ids = use_cases.stores.metadata, [master.id for master in masters]
    metadata.save_decisions(ids, Decision.DIFFERENT)
    earlier = dump(use_cases.stores)
    made = decisions_of(use_cases.stores.metadata)
    later = replace(made[0], decision=Decision.KEEP, decided_at=made[0].decided_at + 1)
    earlier.metadata.import_decisions([later, made[1]])
    write_catalogue(use_cases.stores)
    assert recover(earlier, failures).decisions == 1
    assert decisions_of(earlier.metadata) == [later, *made[1:]]


def test_a_current_database_decides_about_its_decisions(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    metadata, ids = use_cases.stores.metadata, [master.id for master in masters]
    metadata.save_decisions(ids, Decision.DIFFERENT)
    write_catalogue(use_cases.stores)
    metadata.remove_decisions(ids)
    assert recover(use_cases.stores, failures) == RecoveryCounts(present=3)
    assert decisions_of(use_cases.stores.metadata) == []


@pytest.mark.parametrize("damage", ["removed", "damaged", "damaged without an index"])
def test_decisions_that_cannot_be_read_are_reported(
    use_cases: UseCases, masters: list[Master], failures: Failures, damage: str
) -> None:
    stores = use_cases.stores
    stores.metadata.save_decisions([master.id for master in masters], Decision.KEEP)
    write_catalogue(stores)
    if damage == "removed":
        stores.objects.delete(DECISIONS_KEY)
    else:
        put(stores, DECISIONS_KEY, b"no gzip")
    if damage == "damaged without an index":
        stores.objects.delete("catalogue/index.json")
    counts = recover(lose_database(stores), failures)
    assert counts == RecoveryCounts(from_catalogue=3, failed=1)
    assert failures == [(DECISIONS_KEY, "this part of the catalogue is missing or damaged")]


def test_without_a_catalogue_the_key_tells_everything_but_name_and_attributes(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    lost = lose_database(use_cases.stores)
    assert recover(lost, failures) == RecoveryCounts(from_key=3)
    wanted = [
        replace(
            master,
            name=f"{master.id}.png",
            attributes={},
            created_at=master.id.int >> 80,
            updated_at=master.id.int >> 80,
            capture=None,  # the worker reads it
            capture_reader=0,
        )
        for master in masters_of(use_cases.stores)
    ]
    assert masters_of(lost) == wanted


def test_an_interrupted_recovery_resumes(
    use_cases: UseCases,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recovery_module, "_BATCH", 1)
    write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    with prepared(lost, failures) as recovery:
        assert recovery.prepare() == 3
        with pytest.raises(KeyboardInterrupt):
            recovery.recover_masters(raising(KeyboardInterrupt()))
    with pytest.raises(CatalogueRefused):
        write_catalogue(lost)
    assert recover(lost, failures) == RecoveryCounts(present=1, from_catalogue=2)


def test_a_dump_catches_up_with_the_catalogue(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    stores = use_cases.stores
    older = dump(stores)
    use_cases.masters.update_master(masters[0].id, "new", {"a": 1})
    use_cases.masters.delete_master(masters[1].id)  # its original is still there
    use_cases.upload(colours(9), "dogs")
    write_catalogue(stores)
    date_catalogue(stores, 2)
    expected = RecoveryCounts(present=3, from_catalogue=1, updated=1, withdrawn=1)
    assert recover(older, failures, apply=False) == expected
    counts = recover(older, failures)
    assert counts == replace(expected, present=2, left_deleted=1)
    assert masters_of(older) == masters_of(stores)


def test_a_young_row_counts_as_deleted_only_without_its_original(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    older = dump(use_cases.stores)
    for master in masters[:2]:
        use_cases.masters.delete_master(master.id)
    use_cases.stores.objects.delete(masters[0].object_key)
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, 0.5)
    assert recover(older, failures) == RecoveryCounts(present=2, withdrawn=1)
    assert [each.id for each in masters_of(older)] == [each.id for each in masters[1:]]


@pytest.mark.parametrize(("hours", "comes_back"), [(0.5, True), (2.0, False)])
def test_an_original_that_the_catalogue_lacks_comes_back_only_if_it_is_young(
    use_cases: UseCases, masters: list[Master], failures: Failures, hours: float, comes_back: bool
) -> None:
    use_cases.masters.delete_master(masters[0].id)  # the worker has not removed its original
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, hours)
    lost = lose_database(use_cases.stores)
    counts = recover(lost, failures)
    assert (counts.from_key, counts.left_deleted) == (comes_back, not comes_back)


def test_what_the_database_is_deleting_stays_deleted(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    older = dump(use_cases.stores)
    write_catalogue(use_cases.stores)
    older.metadata.delete_master(masters[0].id)
    older.metadata.delete_collection("default")
    assert recover(older, failures) == RecoveryCounts(present=1, left_deleted=2)


def test_a_deleted_collection_stays_deleted(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    older = dump(use_cases.stores)
    use_cases.collections.delete_collection("cats")
    use_cases.collections.empty_collection("default")
    again = use_cases.upload(colours(2)).master
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, 2)
    for stores, withdrawn in ((lose_database(use_cases.stores), 0), (older, 3)):
        counts = recover(stores, failures)
        assert counts == RecoveryCounts(from_catalogue=1, left_deleted=3, withdrawn=withdrawn)
        assert [each.id for each in masters_of(stores)] == [again.id]
        names = [each.name for each, _ in stores.metadata.list_collections()]
        assert names == ["default"]


def test_many_rows_are_deleted_only_if_that_is_allowed(
    use_cases: UseCases, failures: Failures
) -> None:
    uploaded = [use_cases.upload(colours(seed)).master for seed in range(12)]
    older = dump(use_cases.stores)
    for master in uploaded[:11]:
        use_cases.masters.delete_master(master.id)
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, 2)
    with pytest.raises(RemovalRefused, match=r"11 of the 12 masters.*--allow-removal"):
        recover(older, failures)
    assert len(masters_of(older)) == 12
    assert recover(older, failures, allow_removal=True).withdrawn == 11


def test_no_row_of_another_installation_is_deleted_by_itself(
    use_cases: UseCases, failures: Failures
) -> None:
    claim_bucket(use_cases.stores)
    use_cases.upload(colours(1), "theirs")
    other = dump(use_cases.stores)
    other.metadata.claim_database_id("of another bucket")
    use_cases.collections.delete_collection("theirs")
    use_cases.upload(colours(2), "ours")
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, 2)
    with pytest.raises(RemovalRefused, match=r"1 of the 1 masters.*the catalogue of another"):
        recover(other, failures)
    assert recover(other, failures, allow_removal=True).withdrawn == 1


def test_a_new_database_is_refused_until_its_recovery_has_ended(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    claim_bucket(use_cases.stores)
    write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    with prepared(lost, failures) as recovery:
        recovery.prepare()
        with pytest.raises(KeyboardInterrupt):
            recovery.recover_masters(raising(KeyboardInterrupt()))
    assert masters_of(lost) != []
    with pytest.raises(BucketRefused):
        claim_bucket(lost)
    recover(lost, failures)
    claim_bucket(lost)
    with pytest.raises(BucketRefused):
        claim_bucket(use_cases.stores)  # its database was given up


def test_an_upload_that_was_under_way_in_the_dump_comes_back(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    older = dump(use_cases.stores)
    metadata = older.metadata
    collection = metadata.create_collection("late")
    content = colours(50)
    use_cases.stores.metadata.import_collection(collection)
    done = use_cases.upload(content, "late", name="late.png").master
    use_cases.stores.objects.delete(done.object_key)
    new = NewMaster(done.sha256, len(content), "image/png", "png", 64, 48, "late.png", {"a": 1})
    pending = metadata.reserve_master(collection.id, new, "killed", 60.0).master
    put(older, pending.object_key, content)
    assert recover(older, failures) == RecoveryCounts(present=3, from_catalogue=1)
    assert metadata.find_master(pending.id) == replace(pending, state=MasterState.STORED)


def test_wrong_bytes_make_a_damaged_master_or_a_failure(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    write_catalogue(use_cases.stores)
    use_cases.stores.metadata.mark_damaged(masters[1].id)
    put(use_cases.stores, masters[0].object_key, b"wrong")
    put(use_cases.stores, f"{masters[2].object_key[:-4]}.jpg", colours(2))
    put(use_cases.stores, "masters/somebody's.jpg", b"x")
    use_cases.stores.objects.delete(masters[2].object_key)
    lost = lose_database(use_cases.stores)
    counts = recover(lost, failures)
    assert (counts.damaged, counts.from_catalogue, counts.failed) == (1, 1, 2)
    assert {why for _, why in failures} == {
        "the catalogue has other bytes under its id",
        "its key is not that of an original",
    }
    states = {each.id: each.state for each in masters_of(lost)}
    assert states == {masters[0].id: MasterState.DAMAGED, masters[1].id: MasterState.STORED}
    with pytest.raises(CatalogueRefused):  # it is still needed
        write_catalogue(lost)


def test_originals_that_cannot_be_used_are_named(
    use_cases: UseCases,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = use_cases.stores
    text = b"no image"
    fake = replace(masters[0], id=new_id(), sha256=hashlib.sha256(text).digest())
    put(stores, fake.object_key, text)
    put(stores, masters[0].object_key, b"wrong")
    read = stores.objects.read

    def fail_for_two(key: str, *rest: Any) -> Any:
        if key == masters[1].object_key:
            raise ObjectMissing(key)
        if key == masters[2].object_key:
            raise DOWN
        return read(key, *rest)

    monkeypatch.setattr(stores.objects, "read", fail_for_two)
    assert recover(lose_database(stores), failures) == RecoveryCounts(failed=4)
    reasons = " ".join(why for _, why in failures)
    for part in ("not those that were uploaded", "cannot be decoded", "gone", "cannot be read"):
        assert part in reasons

    def fail_for_masters(key: str, *rest: Any) -> Any:
        if key.startswith("masters/"):
            raise DOWN
        return read(key, *rest)

    monkeypatch.setattr(stores.objects, "read", fail_for_masters)
    with pytest.raises(StoreUnavailable):
        recover(lose_database(stores), failures)


def test_of_the_same_bytes_one_master_comes_back(
    use_cases: UseCases,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_cases.masters.delete_master(masters[0].id)
    again = use_cases.upload(colours(0), "cats").master
    lost = lose_database(use_cases.stores)
    assert recover(lost, failures) == RecoveryCounts(from_key=3, left_deleted=1)
    assert again.id in {each.id for each in masters_of(lost)}
    write_catalogue(use_cases.stores)
    monkeypatch.setattr(recovery_module, "_BATCH", 1)
    lost = lose_database(use_cases.stores)
    counts = recover(lost, failures)
    assert counts.from_catalogue + counts.from_key == 3
    assert counts.left_deleted == 1


def damage_chunk(stores: Stores, key: str) -> None:
    put(stores, key, b"x")


def remove_chunk(stores: Stores, key: str) -> None:
    stores.objects.delete(key)


@pytest.mark.parametrize("spoil", [damage_chunk, remove_chunk])
def test_a_lost_chunk_deletes_nothing(
    use_cases: UseCases,
    masters: list[Master],
    failures: Failures,
    spoil: Callable[[Stores, str], None],
) -> None:
    write_catalogue(use_cases.stores)
    date_catalogue(use_cases.stores, 2)
    folder = f"catalogue/cats-{masters[0].collection_id}"
    for info in list(use_cases.stores.objects.list(folder)):
        assert parse_chunk_key(info.key)
        spoil(use_cases.stores, info.key)
    for stores in (lose_database(use_cases.stores), dump(use_cases.stores)):
        failures.clear()
        counts = recover(stores, failures)
        assert (counts.withdrawn, counts.left_deleted, counts.failed) == (0, 0, 1)
        assert len(masters_of(stores)) == 3


def test_a_damaged_index_is_reported_and_the_rows_are_used(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    write_catalogue(use_cases.stores)
    put(use_cases.stores, "catalogue/index.json", b"{}")
    lost = lose_database(use_cases.stores)
    assert recover(lost, failures) == RecoveryCounts(from_catalogue=3, failed=1)
    assert masters_of(lost) == masters_of(use_cases.stores)


def test_a_current_database_decides(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    stores = use_cases.stores
    write_catalogue(stores)
    use_cases.masters.delete_master(masters[0].id)
    use_cases.collections.empty_collection("default")
    while use_cases.worker.run_round():
        pass
    put(stores, masters[0].object_key, colours(0))  # as if its removal had failed
    put(stores, masters[2].object_key, colours(2))
    counts = recover(stores, failures)
    assert (counts.present, counts.left_deleted, counts.without_bytes) == (1, 2, 0)
    assert [each.id for each in masters_of(stores)] == [masters[1].id]


def test_a_master_of_the_catalogue_without_an_original_is_counted(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    write_catalogue(use_cases.stores)
    use_cases.stores.objects.delete(masters[0].object_key)
    lost = lose_database(use_cases.stores)
    assert recover(lost, failures) == RecoveryCounts(from_catalogue=2, without_bytes=1)


# collections of the same name


@pytest.mark.parametrize("catalogued", [True, False])
def test_a_collection_that_a_new_service_created_makes_room(
    use_cases: UseCases, masters: list[Master], failures: Failures, catalogued: bool
) -> None:
    if catalogued:
        write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    lost.metadata.create_collection("default")
    recover(lost, failures)
    found = lost.metadata.find_collection("default")
    assert found is not None
    assert found.id == masters[2].collection_id


@pytest.mark.parametrize("catalogued", [True, False])
def test_a_collection_with_new_masters_is_never_replaced(
    use_cases: UseCases, masters: list[Master], failures: Failures, catalogued: bool
) -> None:
    if catalogued:
        write_catalogue(use_cases.stores)
    lost = lose_database(use_cases.stores)
    other = lost.metadata.create_collection("default")
    master = replace(masters_of(use_cases.stores)[2], id=new_id(), collection_id=other.id)
    lost.metadata.import_records([MasterRecord(master, {})])
    put(lost, master.object_key, colours(2))
    if catalogued:
        with pytest.raises(RecoveryRefused, match="lookalike export"):
            recover(lost, failures)
        return
    counts = recover(lost, failures)
    assert (counts.from_key, counts.present, counts.failed) == (2, 1, 1)
    assert "another one has its name" in failures[0][1]


def test_a_collection_that_the_database_is_still_deleting_stays_deleted(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    write_catalogue(use_cases.stores)
    older = dump(use_cases.stores)
    older.metadata.delete_collection("cats")
    assert recover(older, failures) == RecoveryCounts(present=1, left_deleted=2)


# model versions


def put_weights(stores: Stores, seed: str) -> str:
    content = tiny_weights(seed)
    version = WeightsFile.parse(content).version
    put(stores, encoder_key(version), content)
    return version


def chosen(stores: Stores, failures: Failures) -> dict[str, str]:
    with prepared(stores, failures) as recovery:
        recovery.prepare()
        return recovery.active


def test_the_active_version_comes_back_if_its_file_is_in_the_bucket(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    stores = use_cases.stores
    version = put_weights(stores, "first")
    stores.registry.replace_active({LOOK: version, "words": "words-1"})
    write_catalogue(stores)
    lost = lose_database(stores)
    lost.registry.register_active("model-1", LOOK)  # a service had been started
    assert chosen(lost, failures) == {LOOK: version}
    assert lost.registry.find_active(LOOK) == version
    assert "words-1 of the space words" in failures[0][0]
    put(stores, encoder_key(version), b"damaged")
    assert chosen(lose_database(stores), failures) == {LOOK: "model-1"}
    assert any("its file is damaged" in why for _, why in failures)


def test_a_registry_with_masters_is_left_alone(
    use_cases: UseCases, masters: list[Master], failures: Failures
) -> None:
    older = dump(use_cases.stores)
    use_cases.stores.registry.replace_active({LOOK: put_weights(use_cases.stores, "first")})
    write_catalogue(use_cases.stores)
    assert chosen(older, failures) == {LOOK: "model-1"}


@pytest.mark.parametrize("seeds", [["first"], ["first", "second"]])
def test_without_a_catalogue_the_only_weights_are_active(
    use_cases: UseCases, masters: list[Master], failures: Failures, seeds: list[str]
) -> None:
    versions = [put_weights(use_cases.stores, seed) for seed in seeds]
    known = len(seeds) == 1
    active = chosen(lose_database(use_cases.stores), failures)
    assert active == {LOOK: versions[0] if known else "model-1"}
    assert len(failures) == (0 if known else 1)
