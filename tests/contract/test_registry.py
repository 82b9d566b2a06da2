"""The contract of the model registry: states, activation, retirement and heartbeats."""

from __future__ import annotations

import threading
from dataclasses import replace
from uuid import UUID

import pytest

from storage.errors import ModelConflict
from storage.protocols import MetadataStore, ModelRegistry
from storage.records import LOOK, WORKER, Collection, IndexTask, Master, ModelState, NewMaster

OLD, NEW = "model-1", "model-2"
IMAGE = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {"colour": "red"})
LEASE = 60.0
_BUILDING, _ACTIVE, _PREVIOUS, _RETIRED = (
    ModelState.BUILDING,
    ModelState.ACTIVE,
    ModelState.PREVIOUS,
    ModelState.RETIRED,
)


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active(OLD, LOOK)
    return metadata.create_collection("shop")


def states(registry: ModelRegistry) -> dict[str, ModelState]:
    return {model.id: model.state for model in registry.list_models()}


def stored(
    metadata: MetadataStore, collection: Collection, number: int, indexed: tuple[str, ...] = (OLD,)
) -> Master:
    """Store a master whose upload is acknowledged and which some versions have indexed."""
    master = metadata.reserve_master(
        collection.id, replace(IMAGE, sha256=number.to_bytes(32)), f"owner-{number}", LEASE
    ).master
    leased = metadata.commit_stored(master.id, f"owner-{number}", indexed, LEASE)
    assert leased is not None
    for version in leased:
        assert metadata.mark_indexed(IndexTask(master, version, 0), f"owner-{number}")
    return master


def work(metadata: MetadataStore, *versions: str) -> int:
    tasks = metadata.claim_embeddings(versions, f"{WORKER}1", 100, LEASE)
    return sum(metadata.mark_indexed(task, f"{WORKER}1") for task in tasks)


def fill(registry: ModelRegistry, version: str, batch: int = 2) -> int:
    """Backfill the embeddings of a version; return the number of batches."""
    after: UUID | None = None
    for count in range(1, 100):
        after = registry.backfill_embeddings(version, after, batch)
        if after is None:
            return count
    raise AssertionError("it does not end")


def test_the_first_model_becomes_active_and_stays(registry: ModelRegistry) -> None:
    assert registry.find_active(LOOK) is None
    assert registry.register_active("a", LOOK) == "a"
    assert registry.register_active("b", LOOK) == "a"
    assert registry.find_active(LOOK) == "a"
    assert states(registry) == {"a": _ACTIVE}


def test_many_processes_that_start_at_once_agree(registry: ModelRegistry) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda number=number: found.append(registry.register_active(f"m{number}", LOOK))
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {registry.find_active(LOOK)}
    assert len(registry.list_models()) == 1


def test_a_version_is_built_activated_rolled_back_and_retired(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    before = [stored(metadata, collection, number) for number in range(5)]
    registry.start_building(NEW, LOOK)
    registry.start_building(NEW, LOOK)  # a retry after a lost response
    assert states(registry) == {OLD: _ACTIVE, NEW: _BUILDING}
    after = stored(metadata, collection, 5, indexed=(OLD, NEW))
    assert fill(registry, NEW) == 4
    assert fill(registry, NEW, 100) == 1  # everything exists
    assert registry.count_embeddings(NEW) == {"pending": 5, "indexed": 1}
    with pytest.raises(ModelConflict, match="5 masters lack an embedding"):
        registry.activate_model(NEW)
    assert work(metadata, NEW) == len(before)
    registry.activate_model(NEW)
    assert (registry.find_active(LOOK), states(registry)) == (NEW, {NEW: _ACTIVE, OLD: _PREVIOUS})
    later = stored(metadata, collection, 6, indexed=(NEW, OLD))
    assert metadata.find_records([after.id, later.id])[later.id].indexed == {OLD: 1, NEW: 1}
    registry.activate_model(OLD)
    assert states(registry) == {OLD: _ACTIVE, NEW: _PREVIOUS}
    with pytest.raises(ModelConflict, match="is active"):
        registry.retire_model(OLD)
    registry.retire_model(NEW)
    with pytest.raises(ModelConflict, match="being removed"):
        registry.start_building(NEW, LOOK)
    assert metadata.find_records([later.id])[later.id].indexed == {OLD: 1, NEW: 1}
    assert registry.drain_retired(OLD, 100) is None  # not retired
    assert [registry.drain_retired(NEW, 4), registry.drain_retired(NEW, 4)] == [3, 0]
    assert registry.count_embeddings(OLD) == {"indexed": 7}
    registry.forget_retired(OLD)
    registry.forget_retired(NEW)
    assert states(registry) == {OLD: _ACTIVE}
    registry.start_building(NEW, LOOK)


def test_one_version_is_built_and_one_kept_at_a_time(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    with pytest.raises(ModelConflict, match="model-2 is being built"):
        registry.start_building("model-3", LOOK)
    with pytest.raises(ModelConflict, match="model-2 is being built"):
        registry.start_building(OLD, LOOK)
    registry.activate_model(NEW)
    with pytest.raises(ModelConflict, match="is previous: roll back"):
        registry.start_building(OLD, LOOK)
    registry.start_building("model-3", LOOK)
    with pytest.raises(
        ModelConflict, match="model-1 is kept as the previous version: retire it first"
    ):
        registry.activate_model("model-3")
    registry.activate_model(OLD)  # a rollback is possible during a build
    assert states(registry) == {OLD: _ACTIVE, NEW: _PREVIOUS, "model-3": _BUILDING}
    for version in ("model-4", OLD):
        with pytest.raises(ModelConflict):
            registry.activate_model(version)


def test_an_unacknowledged_upload_does_not_prevent_activation(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    master = metadata.reserve_master(collection.id, IMAGE, "upload", LEASE).master
    assert metadata.commit_stored(master.id, "upload", [OLD, NEW], LEASE) == [OLD, NEW]
    registry.activate_model(NEW)  # the upload still has to index under both
    registry.activate_model(OLD)
    # The upload responds and leaves the embedding to the worker.
    metadata.release_embedding(IndexTask(master, NEW, 0), "upload", 0.0)
    with pytest.raises(ModelConflict, match="1 masters lack"):
        registry.activate_model(NEW)
    assert len(metadata.claim_embeddings([NEW], f"{WORKER}1", 10, LEASE)) == 1
    with pytest.raises(ModelConflict, match="1 masters lack"):
        registry.activate_model(NEW)


def test_a_dead_letter_prevents_activation_unless_it_is_one_under_the_active_version(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    master = stored(metadata, collection, 1, indexed=(OLD,))
    (task,) = metadata.claim_embeddings([NEW], f"{WORKER}1", 10, LEASE)
    metadata.retry_embedding(task, f"{WORKER}1", "why", None)
    with pytest.raises(ModelConflict, match="1 masters lack"):
        registry.activate_model(NEW)
    assert metadata.requeue_embedding(master.id, OLD, 1)
    (task,) = metadata.claim_embeddings([OLD], f"{WORKER}1", 10, LEASE)
    metadata.retry_embedding(task, f"{WORKER}1", "why", None)
    registry.activate_model(NEW)


def test_deleted_and_damaged_masters_do_not_prevent_activation(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    gone, damaged = stored(metadata, collection, 1), stored(metadata, collection, 2)
    other = metadata.create_collection("other")
    stored(metadata, other, 3)
    metadata.delete_master(gone.id)
    metadata.mark_damaged(damaged.id)
    metadata.delete_collection("other")
    metadata.drain_collections(10)
    registry.start_building(NEW, LOOK)
    fill(registry, NEW)
    registry.activate_model(NEW)
    metadata.restore_damaged(damaged.id)
    assert work(metadata, NEW) == 1


def test_every_running_process_must_have_loaded_the_version(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    registry.record_heartbeat("one", [OLD, NEW], LEASE)
    registry.record_heartbeat("two", [OLD], LEASE)
    registry.record_heartbeat("gone", [OLD], -1.0)
    assert {replica.id: replica.loaded for replica in registry.list_replicas()} == {
        "one": [OLD, NEW],
        "two": [OLD],
    }
    with pytest.raises(ModelConflict, match="1 running processes have not loaded model-2: two"):
        registry.activate_model(NEW)
    registry.record_heartbeat("two", [OLD, NEW], LEASE)
    registry.activate_model(NEW)
    registry.remove_replica("two")
    assert [replica.id for replica in registry.list_replicas()] == ["one"]


def test_a_retired_version_waits_for_lease_holders(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    stored(metadata, collection, 1)
    (task,) = metadata.claim_embeddings([NEW], f"{WORKER}1", 10, LEASE)
    registry.retire_model(NEW)
    assert registry.drain_retired(NEW, 10) == 1
    metadata.release_embedding(task, f"{WORKER}1", 0.0)
    assert registry.drain_retired(NEW, 10) == 0


def test_uploads_get_embeddings_of_live_versions_in_the_order_given(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building("a retired one", LOOK)
    registry.retire_model("a retired one")
    registry.start_building(NEW, LOOK)
    master = metadata.reserve_master(collection.id, IMAGE, "upload", LEASE).master
    given = [NEW, "a retired one", OLD]
    assert metadata.commit_stored(master.id, "upload", given, LEASE) == [NEW, OLD]
    assert set(metadata.find_records([master.id])[master.id].indexed) == {OLD, NEW}


def test_replacing_the_active_version_forgets_all_others(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building(NEW, LOOK)
    (building,) = (model for model in registry.list_models() if model.id == NEW)
    registry.replace_active({LOOK: NEW})
    assert registry.list_models() == [replace(building, state=_ACTIVE)]
    registry.replace_active({LOOK: "model-3"})
    assert states(registry) == {"model-3": _ACTIVE}


def test_running_processes_are_listed_by_id(registry: ModelRegistry) -> None:
    for replica in ("b", "a", "c"):
        registry.record_heartbeat(replica, [], LEASE)
    assert [replica.id for replica in registry.list_replicas()] == ["a", "b", "c"]


def test_no_upload_misses_a_model_that_starts_meanwhile(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    """Uploads beside model changes give each master an embedding of every live version."""
    done = threading.Event()
    made: list[Master] = []

    def upload(number: int) -> None:
        for count in range(1000):
            if done.is_set():
                return
            made.append(
                stored(
                    metadata, collection, number * 1000 + count + 1, indexed=tuple(states(registry))
                )
            )

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(4):
            version = f"{'az'[round_ % 2]}-{round_}"  # sorts before or after the other ids
            registry.start_building(version, LOOK)
            fill(registry, version, 100)
            while work(metadata, version, *states(registry)):
                pass
            for _ in range(100):
                try:
                    registry.activate_model(version)
                    break
                except ModelConflict:
                    work(metadata, version)
            previous = next(id_ for id_, state in states(registry).items() if state is _PREVIOUS)
            registry.retire_model(previous)
            while registry.drain_retired(previous, 100):
                pass
            registry.forget_retired(previous)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert list(states(registry).values()) == [_ACTIVE]
    (active,) = states(registry)
    records = metadata.find_records([master.id for master in made])
    lacking = [id_ for id_, record in records.items() if active not in record.indexed]
    assert (lacking, len(records) == len(made) > 20) == ([], True)
