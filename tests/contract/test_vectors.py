"""The contract of the vector stores."""

from __future__ import annotations

import threading
from uuid import UUID

import numpy as np
import pytest

from storage.filter_parser import parse_filter
from storage.metadata import new_id
from storage.protocols import VectorStore
from storage.records import VectorRecord, whole_image
from tests.support.vector_records import ARCHIVE, SHOP, VERSION, record, unit


@pytest.fixture
def records(vectors: VectorStore) -> list[VectorRecord]:
    records = [record(seed, SHOP if seed % 3 else ARCHIVE, number=seed) for seed in range(60)]
    vectors.upsert(VERSION, records)
    return records


def test_every_vector_is_found_by_itself_in_its_collection(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    for wanted in records:
        (hit,) = vectors.search(VERSION, wanted.collection_id, wanted.parts[0].vector, 1)
        assert (hit.master_id, hit.distance) == (wanted.master_id, pytest.approx(0.0, abs=1e-5))


def test_hits_are_the_exact_nearest_in_order(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    query = unit(1000)
    shop = [one for one in records if one.collection_id == SHOP]
    expected = sorted((1.0 - float(one.parts[0].vector @ query), one.master_id) for one in shop)[
        :10
    ]
    hits = vectors.search(VERSION, SHOP, query, 10)
    assert [hit.master_id for hit in hits] == [master_id for _, master_id in expected]
    assert [hit.distance for hit in hits] == pytest.approx(
        [distance for distance, _ in expected], abs=1e-5
    )


def test_a_limit_above_the_number_of_vectors_returns_all(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    hits = vectors.search(VERSION, ARCHIVE, unit(5), 1000)
    assert {hit.master_id for hit in hits} == {
        one.master_id for one in records if one.collection_id == ARCHIVE
    }
    assert vectors.search(VERSION, UUID(int=9), unit(5), 1000) == []
    assert vectors.search("another model", SHOP, unit(5), 1000) == []


def test_ties_are_ordered_by_id(vectors: VectorStore) -> None:
    same = [VectorRecord(new_id(), SHOP, whole_image(unit(1)), {}, 1) for _ in range(20)]
    vectors.upsert(VERSION, same[::-1])
    hits = vectors.search(VERSION, SHOP, unit(2), 20)
    assert [hit.master_id for hit in hits] == sorted(one.master_id for one in same)


def test_max_distance_is_inclusive(vectors: VectorStore, records: list[VectorRecord]) -> None:
    everything = vectors.search(VERSION, SHOP, unit(7), 100)
    limit = everything[9].distance
    assert vectors.search(VERSION, SHOP, unit(7), 100, max_distance=limit) == everything[:10]


def test_distances_stay_within_0_and_2(vectors: VectorStore) -> None:
    vector = unit(3)
    vectors.upsert(
        VERSION,
        [
            VectorRecord(new_id(), SHOP, whole_image(vector), {}, 1),
            VectorRecord(new_id(), SHOP, whole_image(-vector), {}, 1),
        ],
    )
    near, far = (hit.distance for hit in vectors.search(VERSION, SHOP, vector, 2))
    assert near == pytest.approx(0.0, abs=1e-5)
    assert far == pytest.approx(2.0, abs=1e-5)
    assert 0.0 <= near <= far <= 2.0


def test_a_filter_is_applied_before_the_limit(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    chosen = parse_filter({"number": {"$in": [1, 50]}})
    hits = vectors.search(VERSION, SHOP, unit(7), 2, chosen)
    assert {hit.master_id for hit in hits} == {records[1].master_id, records[50].master_id}


def test_an_upsert_replaces(vectors: VectorStore, records: list[VectorRecord]) -> None:
    old = records[1]
    vectors.upsert(
        VERSION, [VectorRecord(old.master_id, SHOP, whole_image(unit(500)), {"number": "new"}, 2)]
    )
    assert vectors.count(VERSION) == len(records)
    hits = vectors.search(VERSION, SHOP, unit(500), 100)
    assert (hits[0].master_id, hits[0].distance) == (old.master_id, pytest.approx(0.0, abs=1e-5))
    assert sum(hit.master_id == old.master_id for hit in hits) == 1
    assert vectors.search(VERSION, SHOP, unit(7), 10, parse_filter({"number": 1})) == []
    found = vectors.fetch_vectors(VERSION, [old.master_id])[old.master_id]
    assert (found.revision, found.attributes) == (2, {"number": "new"})
    assert np.allclose(found.parts[0].vector, unit(500), atol=1e-6)


def test_what_is_deleted_is_not_found(vectors: VectorStore, records: list[VectorRecord]) -> None:
    gone = [one.master_id for one in records[:20]]
    vectors.delete(VERSION, [*gone, new_id()])
    assert vectors.count(VERSION) == len(records) - 20
    assert vectors.fetch_vectors(VERSION, gone) == {}
    hits = vectors.search(VERSION, SHOP, unit(7), 1000)
    assert not {hit.master_id for hit in hits} & set(gone)


def test_versions_do_not_mix(vectors: VectorStore, records: list[VectorRecord]) -> None:
    vectors.upsert(
        "model-2", [VectorRecord(records[0].master_id, SHOP, whole_image(unit(900)), {}, 1)]
    )
    assert vectors.versions() == ["model-1", "model-2"]
    assert len(vectors.search("model-2", SHOP, unit(7), 1000)) == 1
    vectors.delete("model-2", [records[0].master_id])
    assert vectors.count(VERSION) == len(records)


def test_a_dropped_version_is_unknown(vectors: VectorStore, records: list[VectorRecord]) -> None:
    vectors.upsert("model-0", records[:2])
    assert vectors.versions() == ["model-0", "model-1"]
    vectors.drop_version("model-1")
    vectors.drop_version("never seen")
    assert (vectors.versions(), vectors.count("model-1")) == (["model-0"], 0)
    assert vectors.search("model-1", SHOP, unit(7), 10) == []


def test_searches_beside_writes_see_every_finished_write(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def search() -> None:
        try:
            while not stop.is_set():
                hits = vectors.search(VERSION, ARCHIVE, unit(7), 1000)
                assert len(hits) == 20
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for seed in range(2000, 2120, 10):
            batch = [record(number, SHOP) for number in range(seed, seed + 10)]
            vectors.upsert(VERSION, batch)
            (hit,) = vectors.search(VERSION, SHOP, batch[3].parts[0].vector, 1)
            assert hit.master_id == batch[3].master_id
            vectors.delete(VERSION, [one.master_id for one in batch[5:]])
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_every_id_is_listed_once(vectors: VectorStore, records: list[VectorRecord]) -> None:
    vectors.upsert(VERSION, records[:10])
    vectors.delete(VERSION, [records[20].master_id])
    walked = [id_ for batch in vectors.iterate_ids(VERSION) for id_ in batch]
    assert sorted(walked) == sorted(one.master_id for one in records if one is not records[20])
    assert list(vectors.iterate_ids("another model")) == []


@pytest.mark.parametrize("operator", ["$or", "$and"])
def test_a_filter_with_many_conditions_is_accepted(
    vectors: VectorStore, records: list[VectorRecord], operator: str
) -> None:
    conditions = [
        {"number": number} if operator == "$or" else {"number": {"$ne": number}}
        for number in range(1, 90 if operator == "$or" else 49)
    ]
    hits = vectors.search(VERSION, SHOP, unit(3), 100, parse_filter({operator: conditions}))
    listed = set(range(1, 90 if operator == "$or" else 49))
    fitting = {
        r.master_id
        for r in records
        if r.collection_id == SHOP and (r.attributes["number"] in listed) == (operator == "$or")
    }
    found = {hit.master_id for hit in hits}
    assert fitting <= found  # a store may ignore negations
    assert found == fitting or operator == "$and"


def test_each_version_has_its_own_dimension(
    vectors: VectorStore, records: list[VectorRecord]
) -> None:
    wide = [
        VectorRecord(one.master_id, SHOP, whole_image(unit(number, 2048)), {}, 1)
        for number, one in enumerate(records)
    ]
    vectors.upsert("model-2", wide)
    for number in (0, 30, 59):
        (hit,) = vectors.search("model-2", SHOP, unit(number, 2048), 1)
        assert (hit.master_id, hit.distance) == (wide[number].master_id, pytest.approx(0, abs=1e-5))
    (narrow,) = vectors.search(VERSION, SHOP, records[1].parts[0].vector, 1)
    assert narrow.master_id == records[1].master_id
    found = vectors.fetch_vectors("model-2", [wide[0].master_id])
    assert np.allclose(found[wide[0].master_id].parts[0].vector, unit(0, 2048), atol=1e-6)


@pytest.mark.parametrize("shape", [(511,), (513,), (1, 512)])
def test_a_vector_of_the_wrong_length_is_refused(
    vectors: VectorStore, records: list[VectorRecord], shape: tuple[int, ...]
) -> None:
    wrong = np.ones(shape, dtype=np.float32)
    batch = [record(100), VectorRecord(records[0].master_id, SHOP, whole_image(wrong), {}, 1)]
    with pytest.raises(ValueError, match="have 512 numbers"):
        vectors.upsert(VERSION, batch)
    with pytest.raises(ValueError, match="have 512 numbers"):
        vectors.search(VERSION, SHOP, wrong, 1)
    assert vectors.count(VERSION) == len(records)


def test_a_version_that_was_dropped_may_have_another_dimension(vectors: VectorStore) -> None:
    for dimension in (128, 129):
        only = VectorRecord(new_id(), SHOP, whole_image(unit(1, dimension)), {}, 1)
        vectors.upsert("model-2", [only])
        (hit,) = vectors.search("model-2", SHOP, unit(1, dimension), 10)
        assert hit.master_id == only.master_id
        vectors.drop_version("model-2")


def test_a_version_cannot_begin_with_vectors_of_two_lengths(vectors: VectorStore) -> None:
    batch = [record(1), VectorRecord(new_id(), SHOP, whole_image(unit(2, 128)), {}, 1)]
    with pytest.raises(ValueError, match="have 512 numbers"):
        vectors.upsert("model-2", batch)
    assert vectors.count("model-2") == 0
    vectors.upsert("model-2", [])
    assert "model-2" not in vectors.versions()
