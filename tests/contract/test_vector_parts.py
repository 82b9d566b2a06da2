"""The contract of the vector stores for embeddings that have several parts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.filter_parser import parse_filter
from storage.metadata import new_id
from storage.protocols import VectorStore
from storage.records import VectorRecord, whole_image
from tests.support.vector_records import SHOP, VERSION, near, record, several, unit

QUERY = unit(1000)
BOXES = ((1, 2, 30, 40), None, (0, 0, 5, 7))


def test_a_master_is_found_by_its_nearest_part(vectors: VectorStore) -> None:
    first = several(unit(1), near(QUERY, 0.2), near(QUERY, 0.1), boxes=BOXES)
    second = several(near(QUERY, 0.15), near(QUERY, 0.4), boxes=((9, 9, 9, 9), None))
    third = several(near(QUERY, 0.3), near(QUERY, 0.12), boxes=((9, 9, 9, 9), None))
    vectors.upsert(VERSION, [first, second, third])
    hits = vectors.search(VERSION, SHOP, QUERY, 10)
    assert [(hit.master_id, hit.part, hit.box) for hit in hits] == [
        (first.master_id, 2, (0, 0, 5, 7)),
        (third.master_id, 1, None),
        (second.master_id, 0, (9, 9, 9, 9)),
    ]
    assert [hit.distance for hit in hits] == pytest.approx([0.1, 0.12, 0.15], abs=1e-5)


def test_the_first_of_equally_near_parts_is_named_and_masters_tie_by_id(
    vectors: VectorStore,
) -> None:
    same = [several(unit(1), QUERY, QUERY) for _ in range(10)]
    vectors.upsert(VERSION, same[::-1])
    hits = vectors.search(VERSION, SHOP, QUERY, 20)
    assert [(hit.master_id, hit.part) for hit in hits] == sorted((r.master_id, 1) for r in same)


@pytest.mark.parametrize("limit", [1, 3, 6, 30])
def test_the_limit_counts_masters_although_many_parts_of_one_are_nearest(
    vectors: VectorStore, limit: int
) -> None:
    crowd = several(*(near(QUERY, 0.01 + number / 1000) for number in range(60)))
    others = [several(near(QUERY, 0.2 + n / 100), near(QUERY, 0.21 + n / 100)) for n in range(5)]
    vectors.upsert(VERSION, [*others, crowd])
    hits = vectors.search(VERSION, SHOP, QUERY, limit)
    expected = [crowd.master_id, *(one.master_id for one in others)]
    assert [hit.master_id for hit in hits] == expected[:limit]
    within = vectors.search(VERSION, SHOP, QUERY, limit, max_distance=0.215)
    assert [hit.master_id for hit in within] == expected[: min(limit, 3)]


def test_a_filter_selects_a_master_with_all_its_parts(vectors: VectorStore) -> None:
    vectors.upsert(VERSION, [several(unit(n), near(QUERY, n / 100), n=n) for n in range(1, 9)])
    hits = vectors.search(VERSION, SHOP, QUERY, 3, parse_filter({"n": {"$gte": 4}}))
    assert [hit.part for hit in hits] == [1, 1, 1]
    assert [hit.distance for hit in hits] == pytest.approx([0.04, 0.05, 0.06], abs=1e-5)


def test_a_record_is_returned_with_its_parts_in_order(vectors: VectorStore) -> None:
    written = several(*map(unit, range(12)), boxes=BOXES * 4, colour="red")
    one = several(unit(50), boxes=((1, 2, 3, 4),))
    vectors.upsert(VERSION, [written, one, record(60)])
    found = vectors.fetch_vectors(VERSION, [written.master_id, one.master_id, new_id()])
    assert found.keys() == {written.master_id, one.master_id}
    returned = found[written.master_id]
    assert [part.box for part in returned.parts] == list(BOXES * 4)
    for number, part in enumerate(returned.parts):
        assert part.vector == pytest.approx(unit(number), abs=1e-6)
    assert (returned.attributes, returned.revision) == ({"colour": "red"}, 1)
    assert found[one.master_id].parts[0].box == (1, 2, 3, 4)


@pytest.mark.parametrize("kept", [1, 2])
def test_an_upsert_with_fewer_parts_removes_the_others(vectors: VectorStore, kept: int) -> None:
    old = several(near(QUERY, 0.1), unit(1), QUERY, near(QUERY, 0.05))
    other = several(near(QUERY, 0.3), near(QUERY, 0.4))
    vectors.upsert(VERSION, [old, other])
    vectors.upsert(VERSION, [replace(old, parts=old.parts[:kept], revision=2)])
    hits = vectors.search(VERSION, SHOP, QUERY, 10)
    assert [(hit.master_id, hit.part) for hit in hits] == [
        (old.master_id, 0),
        (other.master_id, 0),
    ]
    assert hits[0].distance == pytest.approx(0.1, abs=1e-5)
    assert len(vectors.fetch_vectors(VERSION, [old.master_id])[old.master_id].parts) == kept
    assert vectors.count(VERSION) == 2
    vectors.upsert(VERSION, [replace(old, parts=whole_image(unit(2)) + old.parts, revision=3)])
    (nearest,) = vectors.search(VERSION, SHOP, QUERY, 1)
    assert (nearest.master_id, nearest.part) == (old.master_id, 3)
    assert len(vectors.fetch_vectors(VERSION, [old.master_id])[old.master_id].parts) == 5


def test_masters_are_counted_listed_and_deleted_with_all_their_parts(vectors: VectorStore) -> None:
    records = [several(*(unit(10 * n + part) for part in range(1 + n % 4))) for n in range(12)]
    vectors.upsert(VERSION, records)
    assert vectors.count(VERSION) == 12
    listed = [id_ for batch in vectors.iterate_ids(VERSION) for id_ in batch]
    assert sorted(listed) == sorted(one.master_id for one in records)
    gone, kept = records[:8], records[8:]
    vectors.delete(VERSION, [one.master_id for one in gone])
    assert vectors.count(VERSION) == 4
    assert vectors.fetch_vectors(VERSION, [one.master_id for one in gone]) == {}
    for one in gone:
        for part in one.parts:
            hits = vectors.search(VERSION, SHOP, part.vector, 20)
            assert {hit.master_id for hit in hits} == {each.master_id for each in kept}


def test_every_part_must_have_the_dimension(vectors: VectorStore) -> None:
    with pytest.raises(ValueError, match="have 512 numbers"):
        vectors.upsert("model-2", [several(unit(1), unit(2, 511))])
    assert "model-2" not in vectors.versions()


def test_an_embedding_without_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="has no part"):
        VectorRecord(new_id(), SHOP, (), {}, 1)
