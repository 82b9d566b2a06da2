"""Copies of an installation: what is copied, verified, resumed, mirrored and refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.services import decision_copy
from app.services import installation_copy as copy_module
from app.services.encoder_files import encoder_key
from app.services.installation_copy import CopyCounts, InstallationCopy
from app.services.mirroring import CopyRefused
from models.bundles.archive import read_bundle
from models.weights_file import WeightsFile
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Decision, Stores
from storage.protocols.deletions import NewDeletion, Removal
from storage.records import LOOK, Master, MasterState, NewMaster, new_id, whole_image
from tests.support.decisions import decisions_of
from tests.support.tiny_encoders import make_image_bundle, make_text_bundle
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import DOWN, FakeClock, UseCases, colours, raising

Failures = list[tuple[str, str]]


@pytest.fixture
def failures() -> Failures:
    return []


@pytest.fixture
def masters(use_cases: UseCases) -> list[Master]:
    cats = [use_cases.upload(colours(seed), "cats").master for seed in range(2)]
    return [*cats, use_cases.upload(colours(2)).master]


def prepare(use_cases: UseCases, target: Stores, failures: Failures, **options: Any) -> Any:
    def fail(what: str, reason: str) -> None:
        failures.append((what, reason))

    return InstallationCopy(use_cases.stores, target, jobs=2, lease=60.0, fail=fail, **options)


def copy(use_cases: UseCases, target: Stores, failures: Failures, **options: Any) -> CopyCounts:
    counts: CopyCounts = prepare(use_cases, target, failures, **options).copy_masters(
        lambda _: None
    )
    return counts


def contents(stores: Stores) -> dict[Any, Any]:
    """Return everything in the stores except the times at which rows were written."""
    records = {}
    for record in stores.metadata.list_records(None, 1000):
        master = record.master
        vectors = stores.vectors.fetch_vectors("model-1", [master.id])
        written = {
            id_: (
                [(part.vector.tolist(), part.box) for part in each.parts],
                each.attributes,
                each.revision,
            )
            for id_, each in vectors.items()
        }
        content = b"".join(stores.objects.read(master.object_key))
        records[master.id] = (record, content, written)
    return records


def put(stores: Stores, key: str, content: bytes) -> None:
    stores.objects.put(key, io.BytesIO(content), len(content), "image/png", "a")


def test_everything_is_copied_with_its_id(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    batches: list[int] = []
    copying = prepare(use_cases, other_stores, failures)
    assert copying.count_masters() == 3
    assert copying.copy_masters(batches.append) == CopyCounts(copied=3)
    assert sum(batches) == 3
    assert contents(other_stores) == contents(use_cases.stores)
    assert other_stores.registry.find_active(LOOK) == "model-1"
    assert failures == []


def test_a_second_copy_changes_nothing(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures)
    new = use_cases.upload(colours(9)).master
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=1, unchanged=3)
    use_cases.masters.delete_master(new.id)
    assert copy(use_cases, other_stores, failures) == CopyCounts(unchanged=3, only_in_target=1)


def test_an_interrupted_copy_resumes(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_module, "_BATCH", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(use_cases, other_stores, failures).copy_masters(raising(KeyboardInterrupt()))
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=2, unchanged=1)


def test_without_vectors_the_worker_of_the_target_embeds_again(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    counts = copy(use_cases, other_stores, failures, vectors=False)
    assert counts == CopyCounts(copied=3, to_embed=3)
    assert other_stores.metadata.count_pending_embeddings() == 3
    assert other_stores.vectors.versions() == []


def test_a_missing_or_outdated_vector_becomes_a_pending_embedding(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    use_cases.stores.vectors.delete("model-1", [masters[0].id])
    use_cases.stores.metadata.update_master(masters[1].id, name="new", attributes=None)
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=3, to_embed=2)
    assert other_stores.metadata.count_pending_embeddings() == 2
    ids = [master.id for master in masters]
    assert list(other_stores.vectors.fetch_vectors("model-1", ids)) == [masters[2].id]


@pytest.mark.parametrize("mirror", [False, True])
def test_an_installation_without_a_model_is_copied(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
    mirror: bool,
) -> None:
    monkeypatch.setattr(use_cases.stores.registry, "list_models", list)
    assert copy(use_cases, other_stores, failures, mirror=mirror) == CopyCounts(copied=3)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "its bytes are missing"),
        ("wrong", "its bytes are not those that were uploaded"),
        ("damaged", "it is damaged"),
    ],
)
def test_a_master_whose_bytes_are_lost_is_reported(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    damage: str,
    reason: str,
) -> None:
    stores, master = use_cases.stores, masters[0]
    if damage == "missing":
        stores.objects.delete(master.object_key)
    elif damage == "wrong":
        put(stores, master.object_key, b"x" * master.size)
    else:
        stores.metadata.mark_damaged(master.id)
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=2, failed=1)
    ((what, why),) = failures
    assert what == f"{master.id} ({master.name})"
    assert reason in why
    assert other_stores.metadata.find_master(master.id) is None


def test_a_master_that_is_deleted_before_its_turn_is_left_out(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = use_cases.stores.objects.read

    def delete_first(key: str) -> Any:
        if key == masters[0].object_key:
            use_cases.masters.delete_master(masters[0].id)
            raise ObjectMissing(key)
        return read(key)

    monkeypatch.setattr(use_cases.stores.objects, "read", delete_first)
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=2)
    assert failures == []


def test_one_unreadable_object_is_reported_and_several_in_a_row_end_the_copy(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = use_cases.stores.objects.read

    def fail_for_one(key: str) -> Any:
        if key == masters[0].object_key:
            raise DOWN
        return read(key)

    with monkeypatch.context() as patched:
        patched.setattr(use_cases.stores.objects, "read", fail_for_one)
        assert copy(use_cases, other_stores, failures) == CopyCounts(copied=2, failed=1)
    assert "cannot be read" in failures[0][1]
    for seed in range(10, 13):
        use_cases.upload(colours(seed))
    read_weights = use_cases.stores.objects.read

    def fail_for_masters(key: str) -> Any:
        if key.startswith("masters/"):
            raise DOWN
        return read_weights(key)

    monkeypatch.setattr(use_cases.stores.objects, "read", fail_for_masters)
    with pytest.raises(StoreUnavailable):
        copy(use_cases, other_stores, failures)


def test_other_bytes_or_vectors_from_the_target_fail_the_master(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, fetch = other_stores.objects.read, other_stores.vectors.fetch_vectors

    def flip_bytes(key: str) -> Any:
        return iter([b"other"]) if key == masters[0].object_key else read(key)

    def turn_vectors(version: str, ids: Any) -> Any:
        returned = fetch(version, ids)
        if masters[1].id in returned:
            right = returned[masters[1].id]
            returned[masters[1].id] = replace(
                right, parts=whole_image(np.roll(right.parts[0].vector, 1))
            )
        return returned

    monkeypatch.setattr(other_stores.objects, "read", flip_bytes)
    monkeypatch.setattr(other_stores.vectors, "fetch_vectors", turn_vectors)
    assert copy(use_cases, other_stores, failures) == CopyCounts(copied=1, failed=2)
    assert [why for _, why in failures] == [
        "the object store returned other bytes than were written",
        "the vector store returned another vector than was written",
    ]


def make_encoder(kind: str, directory: Path) -> tuple[str, bytes]:
    """Return the version and the bytes of a small encoder."""
    if kind == "weights":
        content = tiny_weights("other")
        return WeightsFile.parse(content).version, content
    path = make_text_bundle(directory / "words.bundle")
    return read_bundle(path).version, path.read_bytes()


@pytest.mark.parametrize("kind", ["weights", "bundle"])
def test_an_encoder_is_copied_once_unless_it_is_damaged(
    use_cases: UseCases,
    other_stores: Stores,
    failures: Failures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    version, content = make_encoder(kind, tmp_path)
    key, written = encoder_key(version), []
    store = other_stores.objects.put

    def note(key: str, *rest: Any) -> None:
        written.append(key)
        store(key, *rest)

    monkeypatch.setattr(other_stores.objects, "put", note)
    use_cases.stores.registry.replace_active({LOOK: version})
    put(use_cases.stores, key, content)
    for _ in range(2):  # the second copy finds it in the target
        copy(use_cases, other_stores, failures)
        assert b"".join(other_stores.objects.read(key)) == content
        assert written == [key]
    assert failures == []
    put(other_stores, key, content[:-1])
    copy(use_cases, other_stores, failures)
    assert b"".join(other_stores.objects.read(key)) == content
    put(use_cases.stores, key, content[:-1])
    assert copy(use_cases, other_stores, failures).failed == 1
    assert failures[0][0] == f"the encoder {version}"
    assert "damaged" in failures[0][1]
    assert b"".join(other_stores.objects.read(key)) == content


def test_a_file_of_another_bundle_is_not_copied(
    use_cases: UseCases, other_stores: Stores, failures: Failures, tmp_path: Path
) -> None:
    version, _ = make_encoder("bundle", tmp_path)
    other = make_image_bundle(tmp_path / "other.bundle")
    use_cases.stores.registry.replace_active({LOOK: version})
    put(use_cases.stores, encoder_key(version), other.read_bytes())
    assert copy(use_cases, other_stores, failures).failed == 1
    ((_, why),) = failures
    assert read_bundle(other).version in why
    assert list(other_stores.objects.list("models/")) == []


def test_an_encoder_that_is_missing_is_reported_unless_it_is_that_of_look(
    use_cases: UseCases, other_stores: Stores, failures: Failures, tmp_path: Path
) -> None:
    version, _ = make_encoder("bundle", tmp_path)
    use_cases.stores.registry.replace_active({LOOK: "model-1", "words": version})
    assert copy(use_cases, other_stores, failures).failed == 1
    ((what, why),) = failures
    assert (what, "its file is missing" in why) == (f"the encoder {version}", True)


def test_an_encoder_that_the_target_changes_is_reported(
    use_cases: UseCases,
    other_stores: Stores,
    failures: Failures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version, content = make_encoder("bundle", tmp_path)
    use_cases.stores.registry.replace_active({LOOK: version})
    put(use_cases.stores, encoder_key(version), content)
    monkeypatch.setattr(other_stores.objects, "read", lambda key: iter([b"other"]))
    assert copy(use_cases, other_stores, failures).failed == 1
    assert failures[0][1] == "the object store returned other bytes than were written"


def test_a_target_with_vectors_of_another_model_is_refused(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures)
    other_stores.registry.replace_active({LOOK: "model-2"})
    with pytest.raises(CopyRefused, match="vectors of the model model-2 already"):
        copy(use_cases, other_stores, failures)


def test_a_collection_with_other_masters_in_the_target_is_refused(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    metadata = other_stores.metadata
    other_stores.registry.register_active("model-1", LOOK)
    other = metadata.create_collection("cats")
    metadata.create_collection("default")  # an empty one is replaced
    new = NewMaster(b"x" * 32, 1, "image/png", "png", 1, 1, "other", {})
    row = metadata.reserve_master(other.id, new, "me", 60.0).master
    metadata.commit_stored(row.id, "me", [], 60.0)
    with pytest.raises(CopyRefused, match=r"collection cats already.*Delete it there"):
        copy(use_cases, other_stores, failures)
    metadata.delete_master(row.id)
    assert copy(use_cases, other_stores, failures).copied == 3


def test_a_collection_that_comes_back_at_once_is_refused(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_stores.metadata.create_collection("cats")
    monkeypatch.setattr(other_stores.metadata, "delete_collection", lambda _: True)
    with pytest.raises(CopyRefused, match="in use or being deleted"):
        copy(use_cases, other_stores, failures)


def test_a_master_that_changed_since_it_was_copied_is_reported(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures)
    use_cases.masters.update_master(masters[0].id, "new", None)
    assert copy(use_cases, other_stores, failures) == CopyCounts(unchanged=2, failed=1)
    assert "was changed or deleted" in failures[0][1]


def test_the_same_image_uploaded_to_the_target_is_refused(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures)
    content = colours(9)
    master = use_cases.upload(content).master
    new = NewMaster(master.sha256, 1, "image/png", "png", 1, 1, "other", {})
    row = other_stores.metadata.reserve_master(master.collection_id, new, "me", 60.0).master
    other_stores.metadata.commit_stored(row.id, "me", [], 60.0)
    with pytest.raises(CopyRefused, match="uploaded to the target meanwhile"):
        copy(use_cases, other_stores, failures)
    counts = copy(use_cases, other_stores, failures, mirror=True)
    assert (counts.copied, counts.only_in_target) == (1, 1)


def test_a_mirror_follows_changes_and_deletions(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures, mirror=True)
    use_cases.masters.update_master(masters[0].id, "new", {"a": 1})
    use_cases.masters.delete_master(masters[1].id)
    again = use_cases.upload(colours(1), "cats").master  # the bytes of the deleted one
    use_cases.collections.delete_collection("default")
    counts = copy(use_cases, other_stores, failures, mirror=True)
    assert counts == CopyCounts(copied=1, changed=1, only_in_target=2)
    assert contents(other_stores) == contents(use_cases.stores)
    assert again.id in contents(other_stores)
    assert copy(use_cases, other_stores, failures, mirror=True) == CopyCounts(unchanged=2)


def test_a_mirror_replaces_a_master_that_is_uploaded_again_during_the_copy(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_module, "_BATCH", 1)

    def upload_again(_: int) -> None:
        if not done:
            done.append(True)
            use_cases.masters.delete_master(masters[0].id)
            use_cases.upload(colours(0), "cats")

    done: list[bool] = []
    prepare(use_cases, other_stores, failures, mirror=True).copy_masters(upload_again)
    assert contents(other_stores) == contents(use_cases.stores)


@pytest.mark.parametrize("verify", [False, True])
def test_a_mirror_copies_lost_bytes_again(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    verify: bool,
) -> None:
    copy(use_cases, other_stores, failures, mirror=True)
    other_stores.objects.delete(masters[0].object_key)
    put(other_stores, masters[1].object_key, b"x" * masters[1].size)
    other_stores.metadata.mark_damaged(masters[2].id)
    counts = copy(use_cases, other_stores, failures, mirror=True, verify=verify)
    assert (counts.unchanged, counts.changed) == ((0, 3) if verify else (1, 2))
    assert (contents(other_stores) == contents(use_cases.stores)) == verify


def test_a_mirror_without_vectors_keeps_the_embeddings_of_the_target(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures, mirror=True)
    counts = copy(use_cases, other_stores, failures, mirror=True, vectors=False)
    assert counts == CopyCounts(unchanged=3)


def test_a_mirror_of_another_installation_is_refused(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    other_stores.metadata.create_collection("dogs")
    with pytest.raises(CopyRefused, match="backup of another installation"):
        copy(use_cases, other_stores, failures, mirror=True)
    names = [each.name for each, _ in other_stores.metadata.list_collections()]
    assert names == ["dogs"]


def test_deletions_are_finished_before_a_copy(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
    clock: FakeClock,
) -> None:
    """The copy waits for a deletion that a killed process had begun."""
    use_cases.masters.delete_master(masters[0].id)
    metadata = use_cases.stores.metadata
    metadata.claim_deleting("killed", 10, 60.0)
    left: list[int] = []

    def release(seconds: float) -> None:
        FakeClock.sleep(clock, seconds)
        metadata.release_owned_leases("killed")

    monkeypatch.setattr(copy_module, "time", clock)
    monkeypatch.setattr(clock, "sleep", release)
    copying = prepare(use_cases, other_stores, failures)
    copying.finish_deletions(use_cases.stores, left.append)
    assert left == [1, 1]
    assert clock.slept == [0.5]
    assert metadata.count_unfinished() == 0


def test_a_damaged_master_stays_in_a_mirror(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    copy(use_cases, other_stores, failures, mirror=True)
    use_cases.stores.metadata.mark_damaged(masters[0].id)
    assert copy(use_cases, other_stores, failures, mirror=True).failed == 1
    kept = other_stores.metadata.find_records([masters[0].id])[masters[0].id].master
    assert kept.state is MasterState.STORED


def test_decisions_about_duplicates_are_copied_with_their_times(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    metadata = use_cases.stores.metadata
    damaged = use_cases.upload(colours(3)).master
    metadata.save_decisions([master.id for master in masters], Decision.DIFFERENT)
    metadata.save_decisions([masters[0].id, damaged.id], Decision.KEEP)
    metadata.mark_damaged(damaged.id)  # it is not copied
    of_masters = [
        each for each in decisions_of(use_cases.stores.metadata) if damaged.id not in each.masters
    ]
    counts = copy(use_cases, other_stores, failures)
    assert counts == CopyCounts(copied=3, failed=1, decisions=3)
    assert decisions_of(other_stores.metadata) == of_masters
    assert copy(use_cases, other_stores, failures).decisions == 0


def test_a_later_decision_of_the_target_stays(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    ids = [masters[0].id, masters[1].id]
    use_cases.stores.metadata.save_decisions(ids, Decision.DIFFERENT)
    (decided,) = decisions_of(use_cases.stores.metadata)
    copy(use_cases, other_stores, failures)
    later = replace(decided, decision=Decision.KEEP, decided_at=decided.decided_at + 1)
    other_stores.metadata.import_decisions([later])
    assert copy(use_cases, other_stores, failures).decisions == 0
    assert decisions_of(other_stores.metadata) == [later]


@pytest.mark.parametrize("batch", [1, 500])
def test_a_mirror_follows_decisions_that_were_changed_and_removed(
    use_cases: UseCases,
    other_stores: Stores,
    masters: list[Master],
    failures: Failures,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(decision_copy, "_BATCH", batch)
    metadata, ids = use_cases.stores.metadata, [master.id for master in masters]
    metadata.save_decisions(ids, Decision.DIFFERENT)
    assert copy(use_cases, other_stores, failures, mirror=True).decisions == 3
    assert copy(use_cases, other_stores, failures, mirror=True).decisions == 0
    metadata.remove_decisions(ids[:2])
    changed = decisions_of(use_cases.stores.metadata)[0]
    metadata.forget_decisions([changed.masters])
    earlier = replace(changed, decision=Decision.KEEP, decided_at=changed.decided_at - 1)
    metadata.import_decisions([earlier])
    assert copy(use_cases, other_stores, failures, mirror=True).decisions == 1
    assert decisions_of(other_stores.metadata) == decisions_of(use_cases.stores.metadata)
    metadata.remove_decisions(ids)
    assert copy(use_cases, other_stores, failures, mirror=True).decisions == 0
    assert decisions_of(other_stores.metadata) == []


def test_decisions_about_a_removed_master_return_with_it(
    use_cases: UseCases, other_stores: Stores, masters: list[Master], failures: Failures
) -> None:
    metadata, removed = use_cases.stores.metadata, masters[0]
    metadata.save_decisions([master.id for master in masters], Decision.DIFFERENT)
    decided = decisions_of(metadata)
    deletion = NewDeletion(new_id(), removed.collection_id, "filter", 3600.0)
    metadata.remove_masters(deletion, [Removal({removed.id: removed.revision})])
    copy(use_cases, other_stores, failures, mirror=True)
    others = [each for each in decided if removed.id not in each.masters]
    assert decisions_of(other_stores.metadata) == others
    metadata.restore_masters(deletion.id, [removed.id])
    copy(use_cases, other_stores, failures, mirror=True)
    assert decisions_of(other_stores.metadata) == decided
