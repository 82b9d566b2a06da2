"""The use cases on embeddings with several parts, and with model versions of a second space."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.services.encoder_files import encoder_key
from app.services.installation_copy import CopyCounts, InstallationCopy
from app.services.mirroring import CopyRefused
from app.services.queries import FileExample, SearchOptions
from models.weights_file import WeightsFile
from storage.protocols import Stores
from storage.records import LOOK, Master, VectorPart, VectorRecord
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import UseCases, colours
from tests.support.vector_records import unit

WORDS = "words"
BOX = (1, 2, 30, 40)


@pytest.fixture
def master(use_cases: UseCases) -> Master:
    return use_cases.upload(colours(1)).master


def add_part(use_cases: UseCases, master: Master) -> VectorRecord:
    """Give the master's embedding a second part; return its record."""
    vectors = use_cases.stores.vectors
    record = vectors.fetch_vectors("model-1", [master.id])[master.id]
    record = replace(record, parts=(*record.parts, VectorPart(unit(7), BOX)))
    vectors.upsert("model-1", [record])
    return record


def boxes(stores: Stores, master: Master) -> list[Any]:
    record = stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    return [part.box for part in record.parts]


def build_words(use_cases: UseCases) -> str:
    """Build a version of the space `words`, and make it active; return the version."""
    content = tiny_weights("words")
    version = WeightsFile.parse(content).version
    use_cases.reembed.add_encoder(io.BytesIO(content))
    use_cases.reembed.start_building(version, WORDS)
    while use_cases.worker.run_round():
        pass
    assert list(use_cases.reembed.activate_version(version))[-1] == {"active": version}
    return version


def copy(use_cases: UseCases, target: Stores, **options: Any) -> CopyCounts:
    failures: list[str] = []
    copying = InstallationCopy(
        use_cases.stores,
        target,
        jobs=1,
        lease=60.0,
        fail=lambda what, why: failures.append(why),
        **options,
    )
    counts = copying.copy_masters(lambda _: None)
    assert len(failures) == counts.failed
    return counts


def test_a_change_of_attributes_keeps_all_parts(use_cases: UseCases, master: Master) -> None:
    written = add_part(use_cases, master)
    changed = use_cases.masters.update_master(master.id, None, {"n": 1})
    record = use_cases.stores.vectors.fetch_vectors("model-1", [master.id])[master.id]
    assert (record.attributes, record.revision) == (changed.filterable, 2)
    assert [part.box for part in record.parts] == [None, BOX]
    assert np.array_equal(record.parts[1].vector, written.parts[1].vector)


def test_a_scrub_checks_and_removes_a_record_with_all_its_parts(
    use_cases: UseCases, master: Master
) -> None:
    record = add_part(use_cases, master)
    unknown = replace(record, master_id=use_cases.stores.metadata.list_collections()[0][0].id)
    use_cases.stores.vectors.upsert("model-1", [unknown])
    (*_, report) = use_cases.scrub.run_scrub(repair=True, full=True)
    assert (report.repaired, report.vectors) == ({"vector-unknown": 1}, 2)
    (*_, report) = use_cases.scrub.run_scrub(repair=True, full=True)
    assert (report.clean, report.vectors) == (True, 1)
    assert boxes(use_cases.stores, master) == [None, BOX]


def test_a_deleted_master_leaves_no_part(use_cases: UseCases, master: Master) -> None:
    add_part(use_cases, master)
    use_cases.masters.delete_master(master.id)
    use_cases.worker.run_round()
    assert use_cases.stores.vectors.count("model-1") == 0


def test_a_copy_has_all_parts(use_cases: UseCases, other_stores: Stores, master: Master) -> None:
    add_part(use_cases, master)
    assert copy(use_cases, other_stores) == CopyCounts(copied=1)
    assert boxes(other_stores, master) == [None, BOX]


@pytest.mark.parametrize("damage", ["lost", "turned", "without a box"])
def test_a_copy_fails_if_a_part_differs(
    use_cases: UseCases,
    other_stores: Stores,
    master: Master,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_part(use_cases, master)
    fetch = other_stores.vectors.fetch_vectors

    def damaged(version: str, ids: Any) -> Any:
        record = fetch(version, ids)[master.id]
        first, second = record.parts
        parts = {
            "lost": (first,),
            "turned": (first, replace(second, vector=-second.vector)),
            "without a box": (first, replace(second, box=None)),
        }[damage]
        return {master.id: replace(record, parts=parts)}

    monkeypatch.setattr(other_stores.vectors, "fetch_vectors", damaged)
    assert copy(use_cases, other_stores) == CopyCounts(failed=1)


def test_another_space_is_built_beside_look_and_searches_stay_in_look(
    use_cases: UseCases, master: Master
) -> None:
    version = build_words(use_cases)
    assert use_cases.models.active_version(WORDS) == version
    assert use_cases.models.active_version() == "model-1"
    assert use_cases.models.live_versions == ["model-1", version]
    assert use_cases.health.last_active_version() == "model-1"
    later = use_cases.upload(colours(2))
    assert later.indexed
    indexed = use_cases.stores.metadata.find_records([master.id, later.master.id])
    assert [one.indexed for one in indexed.values()] == [{"model-1": 1, version: 1}] * 2
    found = use_cases.search.search([FileExample(io.BytesIO(colours(2)))], SearchOptions("default"))
    assert found.model_version == "model-1"


def test_a_scrub_checks_every_space(use_cases: UseCases, master: Master) -> None:
    version = build_words(use_cases)
    use_cases.stores.vectors.delete(version, [master.id])
    (*_, report) = use_cases.scrub.run_scrub(repair=True, full=True)
    assert report.repaired == {"vector-missing": 1}
    use_cases.worker.run_round()
    assert use_cases.stores.vectors.count(version) == 1


@pytest.mark.parametrize("mirror", [False, True])
def test_a_copy_has_the_active_versions_of_all_spaces(
    use_cases: UseCases, other_stores: Stores, master: Master, mirror: bool
) -> None:
    version = build_words(use_cases)
    assert copy(use_cases, other_stores, mirror=mirror) == CopyCounts(copied=1)
    active = [(model.space, model.id) for model in other_stores.registry.list_models()]
    assert active == [(LOOK, "model-1"), (WORDS, version)]
    assert other_stores.metadata.find_records([master.id])[master.id].indexed == {
        "model-1": 1,
        version: 1,
    }
    for each in ("model-1", version):
        assert other_stores.vectors.count(each) == 1
    assert other_stores.objects.stat(encoder_key(version)).size
    assert copy(use_cases, other_stores, mirror=mirror) == CopyCounts(unchanged=1)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_copy_is_completed_by_a_space_that_is_newer(
    use_cases: UseCases, other_stores: Stores, master: Master, mirror: bool
) -> None:
    copy(use_cases, other_stores, mirror=mirror)
    version = build_words(use_cases)
    completed = CopyCounts(changed=1) if mirror else CopyCounts(copied=1)
    assert copy(use_cases, other_stores, mirror=mirror) == completed
    assert other_stores.vectors.count(version) == 1
    assert other_stores.registry.find_active(WORDS) == version
    assert copy(use_cases, other_stores, mirror=mirror) == CopyCounts(unchanged=1)


def test_a_mirror_forgets_a_space_that_is_gone(
    use_cases: UseCases, other_stores: Stores, master: Master
) -> None:
    version = build_words(use_cases)
    copy(use_cases, other_stores, mirror=True)
    use_cases.reembed.retire_version(version)
    while use_cases.worker.run_round():
        pass
    copy(use_cases, other_stores, mirror=True)
    assert other_stores.registry.find_active(WORDS) is None
    assert other_stores.vectors.versions() == ["model-1"]
    assert list(other_stores.objects.list("models/")) == []
    assert other_stores.metadata.find_records([master.id])[master.id].indexed == {"model-1": 1}
    assert version not in {model.id for model in other_stores.registry.list_models()}


def test_a_target_with_another_version_of_a_space_is_refused(
    use_cases: UseCases, other_stores: Stores, master: Master
) -> None:
    copy(use_cases, other_stores)
    other_stores.registry.register_active("words-9", WORDS)
    build_words(use_cases)
    with pytest.raises(CopyRefused, match="vectors of the model words-9 already"):
        copy(use_cases, other_stores)


def test_a_removed_space_leaves_nothing_and_can_be_created_again(
    use_cases: UseCases, master: Master
) -> None:
    stores = use_cases.stores
    version = build_words(use_cases)
    use_cases.reembed.retire_version(version)
    assert use_cases.models.live_versions == ["model-1"]
    later = use_cases.upload(colours(2)).master
    while use_cases.worker.run_round():
        pass
    indexed = [
        each.indexed for each in stores.metadata.find_records([master.id, later.id]).values()
    ]
    assert indexed == [{"model-1": 1}] * 2
    assert stores.vectors.versions() == ["model-1"]
    assert list(stores.objects.list("models/")) == []
    assert [model.id for model in stores.registry.list_models()] == ["model-1"]
    assert build_words(use_cases) == version
    assert stores.vectors.count(version) == 2
