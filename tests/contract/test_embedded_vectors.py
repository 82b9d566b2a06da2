"""The embedded vector store: it reloads from the database and drops outdated rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage import vector_blocks, vector_matrix
from storage.database import Database
from storage.filter_parser import parse_filter
from storage.records import VectorRecord, whole_image
from storage.vectors_exact import ExactVectorStore
from tests.support.vector_records import SHOP, VERSION, record, several, unit


def test_a_new_process_finds_what_was_written(database: Database) -> None:
    vectors = ExactVectorStore(database)
    written = [record(seed, number=seed, tags=["a", seed]) for seed in range(40)]
    vectors.upsert(VERSION, written)
    vectors.delete(VERSION, [written[0].master_id])
    again = ExactVectorStore(database)
    again.load()
    assert again.search(VERSION, SHOP, unit(77), 100) == vectors.search(
        VERSION, SHOP, unit(77), 100
    )
    assert (
        len(again.search(VERSION, SHOP, unit(77), 100, parse_filter({"tags": {"$contains": 7}})))
        == 1
    )
    again.close()
    vectors.close()


def test_ties_at_the_limit_are_cut_by_id(database: Database) -> None:
    store = ExactVectorStore(database)
    same = [VectorRecord(record(0).master_id, SHOP, whole_image(unit(1)), {}, 1) for _ in range(20)]
    store.upsert(VERSION, same[::-1])
    hits = store.search(VERSION, SHOP, unit(2), 5)
    assert [hit.master_id for hit in hits] == sorted(one.master_id for one in same)[:5]
    store.close()


def test_rewriting_the_same_masters_does_not_grow_the_matrix(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_matrix, "ROWS", 64)
    monkeypatch.setattr(vector_blocks, "ROWS", 64)
    store = ExactVectorStore(database)
    matrix = store._matrix(VERSION)
    written = [record(seed, number=seed) for seed in range(300)]
    for round_ in range(12):
        store.upsert(
            VERSION,
            [
                VectorRecord(one.master_id, SHOP, one.parts, {"round": round_}, round_)
                for one in written
            ],
        )
    assert matrix.capacity <= 1024
    assert len(store.search(VERSION, SHOP, unit(7), 1000, parse_filter({"round": 11}))) == 300
    assert store.search(VERSION, SHOP, unit(7), 1000, parse_filter({"round": 10})) == []
    store.close()


def test_parts_survive_a_restart_and_the_growth_of_the_matrix(database: Database) -> None:
    store = ExactVectorStore(database)
    boxes = ((1, 2, 3, 4), None, (5, 6, 7, 8))
    written = [several(*map(unit, range(n, n + 3)), boxes=boxes) for n in range(0, 1200, 3)]
    for start in range(0, len(written), 50):
        store.upsert(VERSION, written[start : start + 50])
        store.search(VERSION, SHOP, unit(0), 1)  # loads the matrix, which then grows
    store.delete(VERSION, [one.master_id for one in written[::2]])
    store.upsert(VERSION, [several(*map(unit, range(1200, 1900)))])
    again = ExactVectorStore(database)
    again.load()
    for query in (1, 4, 5, 300, 1199, 1888):
        hits = store.search(VERSION, SHOP, unit(query), 300)
        assert again.search(VERSION, SHOP, unit(query), 300) == hits
        assert len(hits) == 201
    nearest = again.search(VERSION, SHOP, unit(5), 1)[0]
    assert (nearest.master_id, nearest.part, nearest.box) == (
        written[1].master_id,
        2,
        (5, 6, 7, 8),
    )
    again.close()
    store.close()


def test_an_older_revision_never_replaces_a_newer_one(database: Database) -> None:
    store = ExactVectorStore(database)
    newer, other = replace(record(1, n=1), revision=3), record(2, n=2)
    store.upsert(VERSION, [newer])
    late = replace(newer, parts=whole_image(unit(5)), attributes={"n": 0}, revision=2)
    store.upsert(VERSION, [late, other])
    store.upsert(VERSION, [late])
    for opened in (store, ExactVectorStore(database)):
        assert opened.fetch_vectors(VERSION, [newer.master_id])[newer.master_id].revision == 3
        hits = opened.search(VERSION, SHOP, unit(1), 10, parse_filter({"n": {"$gte": 0}}))
        assert [hit.master_id for hit in hits] == [newer.master_id, other.master_id]
        assert hits[0].distance < 1e-6
        assert opened.search(VERSION, SHOP, unit(1), 10, parse_filter({"n": 0})) == []
        opened.close()


def test_a_change_that_fails_in_memory_is_read_from_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed, so the next search has it, and its writer must not see an error."""
    store = ExactVectorStore(database)
    first, second, third = (record(seed) for seed in range(3))
    store.upsert(VERSION, [first])
    store.search(VERSION, SHOP, unit(1), 10)

    def fail(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(vector_matrix.VectorMatrix, "put_rows", fail)
        store.upsert(VERSION, [second])
    store.upsert(VERSION, [third])
    found = {hit.master_id for hit in store.search(VERSION, SHOP, unit(1), 10)}
    assert found == {each.master_id for each in (first, second, third)}
    store.close()
