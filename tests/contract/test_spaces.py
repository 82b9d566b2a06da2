"""The contract of the model registry for several spaces, each with versions of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.errors import ModelConflict, ModelNotReady
from storage.protocols import MetadataStore, ModelRegistry
from storage.records import LOOK, WORKER, Collection, IndexTask, Master, ModelState, NewMaster

WORDS = "words"
IMAGE = NewMaster(b"\x01" * 32, 123, "image/jpeg", "jpg", 640, 480, "cat.jpg", {})
LEASE = 60.0
_BUILDING, _ACTIVE, _PREVIOUS, _RETIRED = (
    ModelState.BUILDING,
    ModelState.ACTIVE,
    ModelState.PREVIOUS,
    ModelState.RETIRED,
)


@pytest.fixture
def collection(metadata: MetadataStore, registry: ModelRegistry) -> Collection:
    registry.register_active("look-1", LOOK)
    return metadata.create_collection("shop")


def states(registry: ModelRegistry) -> dict[str, tuple[str, ModelState]]:
    return {model.id: (model.space, model.state) for model in registry.list_models()}


def stored(metadata: MetadataStore, collection: Collection, number: int, *versions: str) -> Master:
    """Store a master whose upload is acknowledged, and index it under some versions."""
    new, owner = replace(IMAGE, sha256=number.to_bytes(32)), f"owner-{number}"
    master = metadata.reserve_master(collection.id, new, owner, LEASE).master
    assert metadata.commit_stored(master.id, owner, versions, LEASE) == list(versions)
    for version in versions:
        assert metadata.mark_indexed(IndexTask(master, version, 0), owner)
    return master


def work(metadata: MetadataStore, *versions: str) -> int:
    tasks = metadata.claim_embeddings(versions, f"{WORKER}1", 100, LEASE)
    return sum(metadata.mark_indexed(task, f"{WORKER}1") for task in tasks)


def backfill(registry: ModelRegistry, version: str) -> None:
    assert registry.backfill_embeddings(version, None, 100) is None


def test_each_space_has_its_own_active_version(
    registry: ModelRegistry, collection: Collection
) -> None:
    assert registry.find_active(WORDS) is None
    assert registry.register_active("words-1", WORDS) == "words-1"
    assert registry.register_active("words-2", WORDS) == "words-1"
    assert (registry.find_active(LOOK), registry.find_active(WORDS)) == ("look-1", "words-1")
    assert states(registry) == {"look-1": (LOOK, _ACTIVE), "words-1": (WORDS, _ACTIVE)}


def test_a_new_space_is_built_before_it_is_active(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    before = stored(metadata, collection, 1, "look-1")
    registry.start_building("words-1", WORDS)
    registry.start_building("words-1", WORDS)  # a retry after a lost response
    assert registry.find_active(WORDS) is None
    backfill(registry, "words-1")
    with pytest.raises(ModelNotReady, match="1 masters"):
        registry.activate_model("words-1")
    assert work(metadata, "words-1") == 1
    registry.record_heartbeat("one", ["look-1"], LEASE)
    with pytest.raises(ModelNotReady, match="have not loaded words-1"):
        registry.activate_model("words-1")
    registry.record_heartbeat("one", ["look-1", "words-1"], LEASE)
    registry.activate_model("words-1")
    assert states(registry) == {"look-1": (LOOK, _ACTIVE), "words-1": (WORDS, _ACTIVE)}
    assert metadata.find_records([before.id])[before.id].indexed == {"look-1": 1, "words-1": 1}


def test_an_upload_adds_embeddings_of_the_live_versions_of_all_spaces(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    registry.start_building("words-2", WORDS)
    registry.activate_model("words-2")
    registry.start_building("look-2", LOOK)
    registry.start_building("words-3", WORDS)
    registry.start_building("gone", "sketches")
    registry.retire_model("gone")
    owner, given = "owner-1", ["words-2", "gone", "look-1"]
    master = metadata.reserve_master(collection.id, IMAGE, owner, LEASE).master
    assert metadata.commit_stored(master.id, owner, given, LEASE) == ["words-2", "look-1"]
    live = {"look-1", "look-2", "words-1", "words-2", "words-3"}
    assert set(metadata.find_records([master.id])[master.id].indexed) == live
    assert work(metadata, *live) == 3  # the upload holds the leases of the other two


def test_spaces_build_switch_roll_back_and_retire_independently(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    registry.start_building("look-2", LOOK)
    registry.start_building("words-2", WORDS)
    with pytest.raises(ModelConflict, match="words-2 is being built"):
        registry.start_building("words-3", WORDS)
    registry.activate_model("words-2")
    assert (registry.find_active(LOOK), registry.find_active(WORDS)) == ("look-1", "words-2")
    registry.activate_model("look-2")
    assert states(registry) == {
        "look-2": (LOOK, _ACTIVE),
        "look-1": (LOOK, _PREVIOUS),
        "words-2": (WORDS, _ACTIVE),
        "words-1": (WORDS, _PREVIOUS),
    }
    registry.activate_model("words-1")
    assert (registry.find_active(LOOK), registry.find_active(WORDS)) == ("look-2", "words-1")
    registry.start_building("words-3", WORDS)
    with pytest.raises(ModelConflict, match="words-2 is kept as the previous version"):
        registry.activate_model("words-3")
    registry.retire_model("words-2")
    registry.activate_model("words-3")
    with pytest.raises(ModelConflict, match="is active"):
        registry.retire_model("words-3")
    assert states(registry)["look-1"] == (LOOK, _PREVIOUS)


def test_a_dead_letter_of_another_space_does_not_excuse_a_missing_embedding(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    stored(metadata, collection, 1)
    (task,) = metadata.claim_embeddings(["look-1"], f"{WORKER}1", 10, LEASE)
    metadata.retry_embedding(task, f"{WORKER}1", "why", None)
    registry.start_building("words-1", WORDS)
    backfill(registry, "words-1")
    with pytest.raises(ModelNotReady, match="1 masters"):
        registry.activate_model("words-1")


def test_a_version_belongs_to_one_space(registry: ModelRegistry, collection: Collection) -> None:
    registry.start_building("words-1", WORDS)
    with pytest.raises(ModelConflict, match="words-1 belongs to the space words"):
        registry.start_building("words-1", LOOK)
    with pytest.raises(ModelConflict, match="look-1 belongs to the space look"):
        registry.start_building("look-1", "sketches")
    with pytest.raises(ModelConflict, match="look-1 belongs to the space look"):
        registry.register_active("look-1", WORDS)
    with pytest.raises(ModelConflict, match="words-1 is building"):
        registry.register_active("words-1", WORDS)
    assert states(registry) == {"look-1": (LOOK, _ACTIVE), "words-1": (WORDS, _BUILDING)}


def test_versions_are_listed_by_space_with_look_first(
    registry: ModelRegistry, collection: Collection
) -> None:
    for space, version in (("words", "w-1"), ("faces", "f-1")):
        registry.register_active(version, space)
    registry.start_building("a-look", LOOK)
    registry.start_building("a-word", WORDS)
    listed = [(model.space, model.id) for model in registry.list_models()]
    assert listed == [
        (LOOK, "look-1"),
        (LOOK, "a-look"),
        ("faces", "f-1"),
        (WORDS, "w-1"),
        (WORDS, "a-word"),
    ]


def test_replacing_the_active_versions_forgets_all_others_in_every_space(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    registry.register_active("faces-1", "faces")
    registry.start_building("look-2", LOOK)
    registry.replace_active({LOOK: "look-2", WORDS: "words-9"})
    assert states(registry) == {"look-2": (LOOK, _ACTIVE), "words-9": (WORDS, _ACTIVE)}
    # Two spaces exchange their versions, which no order of single changes could do.
    registry.replace_active({LOOK: "words-9", WORDS: "look-2"})
    assert states(registry) == {"words-9": (LOOK, _ACTIVE), "look-2": (WORDS, _ACTIVE)}


def test_retired_embeddings_of_one_space_are_drained_alone(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.start_building("words-1", WORDS)
    master = stored(metadata, collection, 1, "look-1", "words-1")
    registry.retire_model("words-1")
    assert states(registry)["words-1"] == (WORDS, _RETIRED)
    assert registry.drain_retired("words-1", 10) == 0
    registry.forget_retired("words-1")
    assert metadata.find_records([master.id])[master.id].indexed == {"look-1": 1}
    assert states(registry) == {"look-1": (LOOK, _ACTIVE)}


def test_a_space_is_removed_with_its_only_version_and_can_be_created_again(
    metadata: MetadataStore, registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    master = stored(metadata, collection, 1, "look-1", "words-1")
    registry.retire_model("words-1")
    assert registry.find_active(WORDS) is None
    assert states(registry) == {"look-1": (LOOK, _ACTIVE), "words-1": (WORDS, _RETIRED)}
    owner, new = "owner-2", replace(IMAGE, sha256=b"\x02" * 32)
    later = metadata.reserve_master(collection.id, new, owner, LEASE).master
    assert metadata.commit_stored(later.id, owner, ["look-1", "words-1"], LEASE) == ["look-1"]
    assert registry.drain_retired("words-1", 10) == 0
    registry.forget_retired("words-1")
    records = metadata.find_records([master.id, later.id])
    assert [set(record.indexed) for record in records.values()] == [{"look-1"}] * 2
    registry.start_building("words-1", WORDS)
    assert metadata.release_embedding(IndexTask(later, "look-1", 0), owner, 0.0) is None
    backfill(registry, "words-1")
    work(metadata, "look-1", "words-1")
    registry.activate_model("words-1")
    assert registry.find_active(WORDS) == "words-1"


def test_a_space_can_get_another_version_while_its_last_one_is_removed(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    registry.retire_model("words-1")
    with pytest.raises(ModelConflict, match="words-1 is retired"):
        registry.start_building("words-1", WORDS)
    registry.start_building("words-2", WORDS)
    registry.activate_model("words-2")
    assert states(registry)["words-1"] == (WORDS, _RETIRED)
    assert registry.find_active(WORDS) == "words-2"


def test_a_space_with_other_live_versions_is_not_removed(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    registry.start_building("words-2", WORDS)
    registry.activate_model("words-2")
    registry.start_building("words-3", WORDS)
    with pytest.raises(ModelConflict, match="retire the others first: words-1, words-3"):
        registry.retire_model("words-2")
    registry.retire_model("words-3")
    with pytest.raises(ModelConflict, match=r"retire the others first: words-1$"):
        registry.retire_model("words-2")
    registry.retire_model("words-1")
    registry.retire_model("words-2")
    assert registry.find_active(WORDS) is None


def test_the_active_version_of_look_is_never_retired(
    registry: ModelRegistry, collection: Collection
) -> None:
    registry.register_active("words-1", WORDS)
    with pytest.raises(ModelConflict, match="look-1 is active"):
        registry.retire_model("look-1")
    registry.retire_model("words-1")
    with pytest.raises(ModelConflict, match="look-1 is active"):
        registry.retire_model("look-1")
    assert registry.find_active(LOOK) == "look-1"
