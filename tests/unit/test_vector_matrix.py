"""The matrix in memory: exact after any changes, and searched while it is written to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import vector_blocks, vector_matrix, vector_pass
from storage.filter_parser import parse_filter
from storage.records import VectorPart, VectorRecord
from storage.vector_matrix import VectorMatrix
from tests.support.memory_stores import MemoryVectorStore

SHOPS = [UUID(int=1), UUID(int=2)]
VERSION = "model-1"
FILTERS: list[dict[str, Any] | None] = [
    None,
    {"word": {"$gte": "b", "$lt": "d"}},
    {"n": {"$in": [1, 2, "x"]}},
    {"word": {"$ne": "c"}},
    {"tags": {"$contains": "t1"}},
]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def make_record(number: int, shape: tuple[int, int, int]) -> VectorRecord:
    """Make a record from drawn numbers; vectors lie on a coarse grid, so many of them tie."""
    parts, direction, kind = shape
    vectors = np.array(
        [[(direction + part) % 3 - 1, (direction * part) % 2, 1, 0.5] for part in range(parts)],
        dtype=np.float32,
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    boxes = [(part, 1, 2, 3) if kind % 2 else None for part in range(parts)]
    return VectorRecord(
        UUID(int=number),
        SHOPS[kind % 5 == 0],
        tuple(map(VectorPart, vectors, boxes)),
        {"word": "abcde"[kind % 5], "n": kind % 3, "tags": [f"t{kind % 4}", f"t{direction % 3}"]},
        1,
    )


SHAPES = st.tuples(st.integers(1, 4), st.integers(0, 8), st.integers(0, 60))
CHANGES = st.lists(
    st.tuples(st.lists(st.integers(0, 25), min_size=1, max_size=6), st.none() | SHAPES),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(changes=CHANGES, rows=st.sampled_from([1, 4, 7]), limit=st.integers(1, 30))
def test_a_search_is_exact_after_any_changes(
    pool: ThreadPoolExecutor,
    changes: list[tuple[list[int], tuple[int, int, int] | None]],
    rows: int,
    limit: int,
) -> None:
    """Small blocks fill up, are emptied and merged all the time; the reference has none."""
    reference, matrix = MemoryVectorStore(), VectorMatrix()
    query = np.array([0.6, 0.0, 0.8, 0.0], dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_matrix, "ROWS", rows)
        patch.setattr(vector_blocks, "ROWS", rows)
        patch.setattr(vector_pass, "_LEAST_PARALLEL", 5)
        for numbers, shape in changes:
            if shape is None:
                ids = [UUID(int=number) for number in numbers]
                matrix.drop_rows(ids)
                reference.delete(VERSION, ids)
            else:
                records = [make_record(number, shape) for number in sorted(set(numbers))]
                matrix.put_rows(records)
                reference.upsert(VERSION, records)
        for shop in SHOPS:
            for form in FILTERS:
                chosen = parse_filter(form) if form else None
                for farthest in (None, 0.4):
                    found = matrix.search(pool, shop, query, limit, chosen, farthest)
                    expected = reference.search(VERSION, shop, query, limit, chosen, farthest)
                    assert found == expected


def test_a_matrix_without_vectors_finds_nothing(pool: ThreadPoolExecutor) -> None:
    query = np.ones(4, dtype=np.float32)
    assert VectorMatrix().search(pool, SHOPS[0], query, 5, None, None) == []


def test_the_attributes_that_a_master_had_take_little_memory(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_blocks, "_MAX_DEAD_VALUES", 100)
    matrix = VectorMatrix()
    still, changing = make_record(1, (1, 1, 1)), make_record(2, (1, 2, 2))
    matrix.put_rows([still])
    for number in range(100):
        tags = [f"{number}-{tag}" for tag in range(30)]
        matrix.put_rows([replace(changing, attributes={"tags": tags})])
    columns = [
        column for block in matrix._blocks.values() for column in block.attributes._columns.values()
    ]
    assert sum(len(column._code_of) for column in columns) < 300
    query, shop = changing.parts[0].vector, changing.collection_id
    for tag, found in (("99-0", 1), ("98-0", 0), ("t1", 1)):
        chosen = parse_filter({"tags": {"$contains": tag}})
        assert len(matrix.search(pool, shop, query, 9, chosen, None)) == found


def test_neither_a_filter_nor_growth_holds_the_lock(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a filter is being evaluated, another thread writes, grows the matrix and searches."""
    monkeypatch.setattr(vector_matrix, "ROWS", 8)
    matrix = VectorMatrix()
    records = [make_record(number, (1, number % 9, 1)) for number in range(20)]
    matrix.put_rows(records)
    query = records[0].parts[0].vector
    inside, proceed = threading.Event(), threading.Event()
    block = matrix._blocks[0]
    select = block.attributes.select

    def slow_select(*given: Any) -> Any:
        inside.set()
        assert proceed.wait(20)
        return select(*given)

    monkeypatch.setattr(block.attributes, "select", slow_select)
    found: list[Any] = []
    shop, chosen = records[0].collection_id, parse_filter({"n": 1})
    thread = threading.Thread(
        target=lambda: found.extend(matrix.search(pool, shop, query, 100, chosen, None))
    )
    thread.start()
    try:
        assert inside.wait(20)
        matrix.put_rows(
            [replace(one, master_id=UUID(int=100 + n)) for n, one in enumerate(records)]
        )
        matrix.drop_rows([one.master_id for one in records])
        assert len(matrix.search(pool, shop, query, 100, None, None)) == 20
    finally:
        proceed.set()
        thread.join()
    assert {hit.master_id for hit in found} == {one.master_id for one in records}
