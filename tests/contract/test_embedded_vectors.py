"""The embedded vector store: it reloads from the database and drops outdated rows."""

from __future__ import annotations

from storage.database import Database
from storage.filters import parse_filter
from storage.records import VectorRecord
from storage.vectors_exact import ExactVectorStore
from tests.support.vector_records import SHOP, VERSION, record, unit


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
    same = [VectorRecord(record(0).master_id, SHOP, unit(1), {}, 1) for _ in range(20)]
    store.upsert(VERSION, same[::-1])
    hits = store.search(VERSION, SHOP, unit(2), 5)
    assert [hit.master_id for hit in hits] == sorted(one.master_id for one in same)[:5]
    store.close()


def test_rewriting_the_same_masters_does_not_grow_the_matrix(database: Database) -> None:
    store = ExactVectorStore(database)
    matrix = store._matrix(VERSION)
    written = [record(seed, number=seed) for seed in range(300)]
    for round_ in range(12):
        store.upsert(
            VERSION,
            [
                VectorRecord(one.master_id, SHOP, one.vector, {"round": round_}, round_)
                for one in written
            ],
        )
    assert len(matrix._vectors) <= 1024
    assert len(store.search(VERSION, SHOP, unit(7), 1000, parse_filter({"round": 11}))) == 300
    assert store.search(VERSION, SHOP, unit(7), 1000, parse_filter({"round": 10})) == []
    store.close()
