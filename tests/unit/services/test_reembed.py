"""Model changes: adding, building, checking, activating and retiring versions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from app.errors import Busy, Conflict, InvalidInput, NotFound
from app.services import backfill as backfill_module
from app.services import reembed as reembed_module
from app.services.backfill import Backfill
from app.services.encoder_files import encoder_key
from models.weights_file import WeightsFile
from storage.errors import ModelNotReady
from storage.protocols import Decision
from storage.records import ModelState, VectorRecord, whole_image
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import FakeClock, UseCases, colours


@pytest.fixture
def version(use_cases: UseCases) -> str:
    """Another version whose weights are added, but which is not started."""
    return use_cases.reembed.add_encoder(io.BytesIO(tiny_weights("other")))


def build(use_cases: UseCases, version: str) -> None:
    use_cases.reembed.start_building(version)
    work(use_cases)


def work(use_cases: UseCases) -> None:
    for _ in range(20):
        if not use_cases.worker.run_round():
            return
    pytest.fail("the worker does not come to an end")


def states(use_cases: UseCases) -> dict[str, ModelState]:
    return {each.model.id: each.model.state for each in use_cases.reembed.list_progress()[0]}


def test_added_weights_are_stored_and_not_used_yet(use_cases: UseCases, version: str) -> None:
    stored = b"".join(use_cases.stores.objects.read(encoder_key(version)))
    assert WeightsFile.parse(stored).version == version
    assert states(use_cases) == {"model-1": ModelState.ACTIVE}


def test_a_file_without_weights_is_refused(use_cases: UseCases) -> None:
    with pytest.raises(InvalidInput, match="cannot be used") as caught:
        use_cases.reembed.add_encoder(io.BytesIO(b"no weights"))
    assert caught.value.code == "invalid-weights"


@pytest.mark.parametrize("length", [0.0, 2.0, float("nan")])
def test_a_network_whose_vectors_have_another_length_is_refused(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch, length: float
) -> None:
    vector = np.zeros((1, 512), dtype=np.float32)
    vector[0, 0] = length
    monkeypatch.setattr("tests.support.use_cases.TinyEmbedder.embed", lambda *_, **__: vector)
    with pytest.raises(InvalidInput, match="not 1"):
        use_cases.reembed.add_encoder(io.BytesIO(tiny_weights("other")))
    assert list(use_cases.stores.objects.list("models")) == []


def test_a_change_of_the_model_keeps_decisions_about_duplicates(
    use_cases: UseCases, version: str
) -> None:
    metadata = use_cases.stores.metadata
    ids = [use_cases.upload(colours(seed)).master.id for seed in range(3)]
    metadata.save_decisions(ids, Decision.DIFFERENT)
    decisions = metadata.list_all_decisions(10, None)
    assert len(decisions) == 3
    build(use_cases, version)
    list(use_cases.reembed.activate_version(version))
    use_cases.reembed.retire_version("model-1")
    work(use_cases)
    assert states(use_cases) == {version: ModelState.ACTIVE}
    assert metadata.list_all_decisions(10, None) == decisions


def test_a_version_is_built_beside_the_active_one_and_activated(
    use_cases: UseCases, version: str
) -> None:
    for seed in range(3):
        use_cases.upload(colours(seed))
    build(use_cases, version)
    progress, (replica,) = use_cases.reembed.list_progress()
    assert {each.model.id: (each.masters, each.indexed, each.dead) for each in progress} == {
        "model-1": (3, 3, 0),
        version: (3, 3, 0),
    }
    assert set(replica.loaded) == {"model-1", version}
    assert use_cases.models.active_version() == "model-1"
    *checked, last = use_cases.reembed.activate_version(version)
    assert (checked, last) == ([{"checked": 3}], {"active": version})
    assert states(use_cases) == {version: ModelState.ACTIVE, "model-1": ModelState.PREVIOUS}
    assert use_cases.models.live_versions[0] == version


def test_uploads_during_the_build_get_both_embeddings(use_cases: UseCases, version: str) -> None:
    use_cases.reembed.start_building(version)
    master = use_cases.upload(colours(1)).master
    for each in ("model-1", version):
        assert use_cases.stores.metadata.is_indexed(master.id, each)


def test_a_version_without_weights_cannot_be_started(use_cases: UseCases) -> None:
    with pytest.raises(NotFound, match="Add its file first"):
        use_cases.reembed.start_building("unknown")
    assert states(use_cases) == {"model-1": ModelState.ACTIVE}


def test_weights_that_are_removed_meanwhile_end_the_start(
    use_cases: UseCases, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = use_cases.stores.registry
    start = registry.start_building

    def remove_weights(version: str, space: str) -> None:
        use_cases.stores.objects.delete(encoder_key(version))
        start(version, space)

    monkeypatch.setattr(registry, "start_building", remove_weights)
    with pytest.raises(NotFound):
        use_cases.reembed.start_building(version)
    assert states(use_cases)[version] is ModelState.RETIRED


def test_what_the_state_forbids_is_a_conflict(use_cases: UseCases, version: str) -> None:
    for call in (
        lambda: use_cases.reembed.start_building("model-1"),
        lambda: use_cases.reembed.retire_version("model-1"),
        lambda: list(use_cases.reembed.activate_version("model-1")),
    ):
        with pytest.raises(Conflict) as caught:
            call()
        assert caught.value.code == "model-conflict"


def test_only_registered_versions_are_activated(use_cases: UseCases, version: str) -> None:
    use_cases.reembed.check_registered("model-1")
    with pytest.raises(NotFound, match=f"lookalike models start {version}"):
        use_cases.reembed.check_registered(version)


def test_a_missing_vector_prevents_the_switch(use_cases: UseCases, version: str) -> None:
    master = use_cases.upload(colours(1)).master
    build(use_cases, version)
    use_cases.stores.vectors.delete(version, [master.id])
    with pytest.raises(Conflict, match=r"1 x vector-missing.*scrub --repair") as caught:
        list(use_cases.reembed.activate_version(version))
    assert caught.value.code == "model-not-ready"
    assert use_cases.models.active_version() == "model-1"


@pytest.mark.parametrize("wrong_value", ["not a number", "of another master"])
def test_a_wrong_vector_prevents_the_switch(
    use_cases: UseCases, version: str, wrong_value: str
) -> None:
    masters = [use_cases.upload(colours(seed)).master for seed in range(2)]
    build(use_cases, version)
    vectors = use_cases.stores.vectors
    right = vectors.fetch_vectors(version, [each.id for each in masters])
    own = right[masters[0].id]
    vector = right[masters[1].id].parts[0].vector
    if wrong_value == "not a number":
        vector = np.full(512, np.nan, dtype=np.float32)
    wrong = VectorRecord(
        own.master_id, own.collection_id, whole_image(vector), own.attributes, own.revision
    )
    vectors.upsert(version, [wrong])
    with pytest.raises(Conflict, match="does not find itself"):
        list(use_cases.reembed.activate_version(version))
    assert use_cases.models.active_version() == "model-1"


def test_masters_that_go_during_the_check_are_skipped(
    use_cases: UseCases, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, deleted, _ = (use_cases.upload(colours(seed)).master for seed in range(3))
    build(use_cases, version)
    use_cases.stores.objects.delete(lost.object_key)
    search = use_cases.stores.vectors.search

    def delete_meanwhile(*arguments: Any) -> Any:
        use_cases.stores.metadata.delete_master(deleted.id)
        use_cases.stores.vectors.delete(version, [deleted.id])
        return search(*arguments)

    monkeypatch.setattr(use_cases.stores.vectors, "search", delete_meanwhile)
    assert list(use_cases.reembed.activate_version(version))[-1] == {"active": version}


def test_the_switch_waits_for_what_is_on_its_way(
    use_cases: UseCases, version: str, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    build(use_cases, version)
    registry = use_cases.stores.registry
    activate, not_ready = registry.activate_model, [ModelNotReady("soon")] * 3

    def later(version: str) -> None:
        if not_ready:
            raise not_ready.pop()
        activate(version)

    monkeypatch.setattr(reembed_module, "time", clock)
    monkeypatch.setattr(registry, "activate_model", later)
    *events, last = use_cases.reembed.activate_version(version)
    assert (events, last) == ([{}] * 3, {"active": version})
    assert len(clock.slept) == 3


def test_the_switch_gives_up_after_a_while(
    use_cases: UseCases, version: str, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    build(use_cases, version)
    use_cases.stores.registry.record_heartbeat("another process", ["model-1"], 60.0)
    monkeypatch.setattr(reembed_module, "time", clock)
    with pytest.raises(Conflict, match="have not loaded") as caught:
        list(use_cases.reembed.activate_version(version))
    assert caught.value.code == "model-not-ready"
    assert 20.0 <= sum(clock.slept) < 21.0


def test_a_retired_version_is_removed_with_vectors_and_weights(
    use_cases: UseCases, version: str
) -> None:
    use_cases.upload(colours(1))
    build(use_cases, version)
    use_cases.wake.clear()
    use_cases.reembed.retire_version(version)
    assert use_cases.wake.is_set()
    assert use_cases.models.live_versions == ["model-1"]
    work(use_cases)
    assert states(use_cases) == {"model-1": ModelState.ACTIVE}
    assert use_cases.stores.vectors.versions() == ["model-1"]
    assert list(use_cases.stores.objects.list("models")) == []


def test_one_process_at_a_time_backfills_in_batches(
    use_cases: UseCases, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_module, "_BATCH", 2)
    for seed in range(3):
        use_cases.upload(colours(seed))
    use_cases.reembed.start_building(version)
    first, second = (Backfill(use_cases.stores, 60.0) for _ in range(2))
    assert first.run_batch()
    count = use_cases.stores.registry.count_embeddings
    assert count(version) == {"pending": 2}
    assert not second.run_batch()
    while first.run_batch():
        pass
    assert count(version) == {"pending": 3}
    assert second.run_batch()  # the lease is free, and a second pass changes nothing
    assert count(version) == {"pending": 3}


def test_leased_embeddings_of_a_retired_version_are_removed_later(
    use_cases: UseCases, version: str
) -> None:
    use_cases.upload(colours(1))
    use_cases.reembed.start_building(version)
    backfill = Backfill(use_cases.stores, 60.0)
    backfill.run_batch()
    (task,) = use_cases.stores.metadata.claim_embeddings([version], "me", 5, 60.0)
    use_cases.reembed.retire_version(version)
    assert not backfill.run_batch()
    assert version in states(use_cases)
    use_cases.stores.metadata.release_embedding(task, "me", 0.0)
    assert backfill.run_batch()
    assert version not in states(use_cases)


def test_a_busy_process_activates_no_version_that_it_could_not_check(
    use_cases: UseCases, version: str
) -> None:
    use_cases.upload(colours(1))
    build(use_cases, version)
    use_cases.vision.stop()
    with pytest.raises(Busy):
        list(use_cases.reembed.activate_version(version))
    assert states(use_cases)["model-1"] is ModelState.ACTIVE
