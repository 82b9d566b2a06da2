"""Every answer of the matrix in memory equals that of a comparison of all rows in float64."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from storage import vector_blocks, vector_kernel, vector_matrix, vector_pass
from storage.filter_parser import parse_filter
from storage.records import VectorHit, VectorPart, VectorRecord
from storage.vector_kernel import prepare_products
from storage.vector_matrix import VectorMatrix
from storage.vector_pass import compare_all, decide_hits

SHOPS = [UUID(int=1), UUID(int=2), UUID(int=3)]
KERNELS = ["numkong", "numpy"]
RED = {"colour": "red"}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few hundred rows fill several blocks, tasks and threads."""
    monkeypatch.setattr(vector_matrix, "ROWS", 300)
    monkeypatch.setattr(vector_blocks, "ROWS", 300)
    monkeypatch.setattr(vector_pass, "_ROWS", 128)
    monkeypatch.setattr(vector_pass, "_FIRST_ROWS", 32)
    monkeypatch.setattr(vector_pass, "_LEAST_PARALLEL", 500)


@pytest.fixture(params=KERNELS)
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(vector_kernel, "numkong", None)
    elif vector_kernel.numkong is None:
        pytest.skip("NumKong has no wheel for this platform")


@dataclass
class Masters:
    """Masters as arrays: one row per part."""

    vectors: NDArray[np.float32]
    owners: NDArray[np.int64]  # the number of the master
    parts: NDArray[np.int64]
    shops: NDArray[np.int64]
    red: NDArray[np.bool_]

    @classmethod
    def of(cls, rng: np.random.Generator, vectors: NDArray[np.float32], most_parts: int) -> Masters:
        counts = rng.integers(1, most_parts + 1, size=len(vectors))
        owners = np.repeat(np.arange(len(counts)), counts)[: len(vectors)]
        parts = np.arange(len(owners)) - np.searchsorted(owners, owners)
        # Ids in no order, so that ties are not in the order of the rows.
        shops, red = rng.choice(3, size=len(counts), p=[0.8, 0.19, 0.01]), rng.random(len(counts))
        return cls(vectors, owners, parts, shops[owners], red[owners] < 0.3)

    def record(self, owner: int) -> VectorRecord:
        rows = np.flatnonzero(self.owners == owner)
        first = rows[0]
        attributes = {"colour": "red" if self.red[first] else "blue"}
        parts = tuple(VectorPart(self.vectors[row]) for row in rows)
        return VectorRecord(_id(owner), SHOPS[self.shops[first]], parts, attributes, 1)

    def without(self, owners: NDArray[np.int64]) -> Masters:
        kept = ~np.isin(self.owners, owners)
        return Masters(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    def search(
        self,
        shop: int,
        vector: NDArray[np.float32],
        limit: int,
        only_red: bool,
        max_distance: float | None,
    ) -> list[VectorHit]:
        chosen = self.shops == shop
        if only_red:
            chosen = chosen & self.red
        rows = np.flatnonzero(chosen)
        products = (self.vectors[rows].astype(np.float64) * vector).sum(axis=1)
        distances = np.clip(np.round(1.0 - products, 6), 0.0, 2.0)
        if max_distance is not None:
            near = distances <= max_distance
            rows, distances = rows[near], distances[near]
        keys = _keys(self.owners[rows])
        found: dict[UUID, VectorHit] = {}
        for place in np.lexsort((self.parts[rows], keys, distances)):
            if len(found) == limit:
                break
            id_, part = _id(self.owners[rows[place]]), int(self.parts[rows[place]])
            found.setdefault(id_, VectorHit(id_, float(distances[place]), part))
        return list(found.values())


def _keys(owners: NDArray[np.int64]) -> NDArray[np.int64]:
    return owners * 7919 % 1_000_003


def _id(owner: int | np.int64) -> UUID:
    return UUID(int=(int(owner) * 7919 % 1_000_003) << 40)


def fill(masters: Masters, rng: np.random.Generator) -> VectorMatrix:
    """Put all masters in a matrix, some of them twice, with some that are deleted again."""
    matrix, owners = VectorMatrix(), np.unique(masters.owners)
    records = [masters.record(owner) for owner in owners]
    for start in range(0, len(records), 100):
        matrix.put_rows(records[start : start + 100])
    for number in rng.choice(len(records), len(records) // 5, replace=False).tolist():
        matrix.drop_rows([records[number].master_id])
        matrix.put_rows([records[number]])
    return matrix


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def draw_spread(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return unit(rng.normal(size=(count, 64)))


def draw_clusters(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Draw vectors that differ by less than the error of their codes, many of them not at all."""
    centres = unit(np.abs(rng.normal(size=(3, 64))))
    noise = rng.normal(size=(count, 64)) * rng.choice([0, 1e-7, 1e-6, 1e-4], size=(count, 1))
    return unit(centres[rng.integers(3, size=count)] + noise)


def draw_grid(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return unit(rng.integers(-1, 2, size=(count, 3)).astype(float))


def draw_any_length(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Draw vectors from zero to the largest ones whose products float64 can hold."""
    scales = 10.0 ** rng.integers(-44, 30, size=(count, 1))
    scales[::3] = rng.random((len(scales[::3]), 1)) * 1.5
    vectors = rng.normal(size=(count, 16)) * scales
    vectors[::11] = 0
    return vectors.astype(np.float32)


def draw_spikes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Draw vectors of which one number is so large that the codes of the others are 0."""
    vectors = rng.normal(size=(count, 128))
    vectors[np.arange(count), rng.integers(0, 4, size=count)] = 400
    return unit(vectors)


def draw_long(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return unit(np.abs(rng.normal(size=(count, 2048))) ** 3)


KINDS = {
    draw_spread: (1200, 1500),
    draw_clusters: (900, 1500),
    draw_grid: (700, 1500),
    draw_any_length: (700, 1000),
    draw_spikes: (700, 1000),
    draw_long: (350, 200),
}  # the number of rows and of queries, for each kernel, of vectors with one part and with several


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("most_parts", [1, 3])
@pytest.mark.parametrize("draw", KINDS)
def test_an_answer_is_that_of_comparing_all_in_float64(
    pool: ThreadPoolExecutor, draw: object, most_parts: int
) -> None:
    rng = np.random.default_rng(most_parts)
    count, queries = KINDS[draw]  # type: ignore[index]
    masters = Masters.of(rng, draw(rng, count), most_parts)  # type: ignore[operator]
    matrix = fill(masters, rng)
    gone = rng.choice(np.unique(masters.owners), count // 10, replace=False)
    matrix.drop_rows([_id(owner) for owner in gone.tolist()])
    masters = masters.without(gone)
    vectors = draw(rng, queries // 2)  # type: ignore[operator]
    some = masters.vectors[rng.integers(len(masters.vectors), size=queries // 2)]
    red = parse_filter(RED)
    for number, vector in enumerate(np.concatenate([vectors, some])[::2]):
        limit, shop = (1, 3, 10, 40)[number % 4], number % 3
        farthest = (None, 0.0, 1e-6, 0.3, 1.0, 2.0)[number % 6]
        only_red = number % 5 == 0
        expected = masters.search(shop, vector, limit, only_red, farthest)
        condition = red if only_red else None
        found = matrix.search(pool, SHOPS[shop], vector, limit, condition, farthest)
        assert found == expected


@pytest.mark.usefixtures("_kernel")
def test_queries_of_one_pass_get_the_answers_that_they_get_alone(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(5)
    masters = Masters.of(rng, draw_clusters(rng, 2000), 2)
    matrix = fill(masters, rng)
    red = parse_filter(RED)
    for size in (1, 2, 7, 16):
        searches = [
            (
                SHOPS[rng.integers(3)],
                masters.vectors[rng.integers(len(masters.vectors))],
                int(rng.integers(1, 50)),
                red if rng.random() < 0.3 else None,
                0.5 if rng.random() < 0.3 else None,
            )
            for _ in range(size)
        ]
        queries = [matrix._prepare(*search) for search in searches]
        compare_all(pool, queries)
        alone = [matrix.search(pool, *search) for search in searches]
        assert [decide_hits(query) for query in queries] == alone


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("dimension", [1, 3, 64, 1023, 1024, 2048])
@pytest.mark.parametrize("queries", [1, 2, 5, 16])
def test_products_of_codes_are_exact(dimension: int, queries: int) -> None:
    rng = np.random.default_rng(dimension)
    for extreme in (False, True):
        codes = rng.integers(-127, 128, size=(300, dimension), dtype=np.int8)
        others = rng.integers(-127, 128, size=(queries, dimension), dtype=np.int8)
        if extreme:
            codes[:], others[:] = 127, np.where(np.arange(queries) % 2, 127, -127)[:, np.newaxis]
        found = np.empty((300, queries), dtype=np.int32)
        prepare_products(others)(codes, found)
        assert (found == codes.astype(np.int64) @ others.T.astype(np.int64)).all()


def test_few_rows_are_compared_in_float64(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exact answer is worth little if codes leave most of the rows to decide."""
    rng = np.random.default_rng(7)
    masters = Masters.of(rng, unit(rng.normal(size=(3000, 512))), 1)
    matrix = fill(masters, rng)
    counts: list[int] = []

    def count(arrays: Sequence[NDArray[np.generic]], *given: NDArray[np.int64]) -> object:
        if arrays[0].dtype == np.float32:
            counts.append(len(given[1]))
        return vector_blocks.gather(arrays, *given)

    monkeypatch.setattr(vector_pass, "gather", count)
    for vector in unit(rng.normal(size=(20, 512))):
        matrix.search(pool, SHOPS[0], vector, 10, None, None)
    assert np.mean(counts) < 200


def test_searches_are_exact_while_others_write(pool: ThreadPoolExecutor) -> None:
    rng = np.random.default_rng(9)
    masters = Masters.of(rng, draw_spread(rng, 900), 2)
    matrix = fill(masters, rng)
    still = np.unique(masters.owners[masters.shops == 0])
    moving = [masters.record(owner) for owner in np.unique(masters.owners[masters.shops == 1])]
    done, failures = threading.Event(), []

    def write() -> None:
        try:
            while not done.is_set():
                matrix.drop_rows([record.master_id for record in moving])
                matrix.put_rows(moving)
        except Exception as error:
            failures.append(error)

    def search(seed: int) -> None:
        its = np.random.default_rng(seed)
        try:
            for _ in range(60):
                vector = masters.vectors[its.integers(len(masters.vectors))]
                found = matrix.search(pool, SHOPS[0], vector, 10, None, None)
                assert found == masters.search(0, vector, 10, False, None)
        except Exception as error:
            failures.append(error)

    assert len(still) > 100
    writer = threading.Thread(target=write)
    searchers = [threading.Thread(target=search, args=[seed]) for seed in range(6)]
    for thread in [writer, *searchers]:
        thread.start()
    for thread in searchers:
        thread.join()
    done.set()
    writer.join()
    assert failures == []


class _NumberedPool(ThreadPoolExecutor):
    """Tells each call which one of those that were submitted it is."""

    def __init__(self) -> None:
        super().__init__(2)
        self.mine = threading.local()
        self._count = itertools.count()

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        number = next(self._count)

        def run() -> Any:
            self.mine.number = number
            return call(*arguments, **named)

        return super().submit(run)


def test_a_pass_that_fails_ends_when_all_of_its_threads_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queries are compared again then, and must not get rows from the pass before."""
    all_run, ended = threading.Barrier(3), threading.Event()

    class Task:
        first, end = 0, 10

        def compare(self, buffers: object) -> None:
            all_run.wait(10)
            number = getattr(numbered.mine, "number", None)
            if number == 0:
                raise MemoryError
            if number == 1:
                threading.Event().wait(0.3)
                ended.set()

    monkeypatch.setattr(vector_pass, "available_cores", lambda: 3)
    monkeypatch.setattr(vector_pass, "_LEAST_PARALLEL", 1)
    monkeypatch.setattr(vector_pass, "_plan", lambda _: [Task(), Task(), Task()])
    with _NumberedPool() as numbered:
        with pytest.raises(MemoryError):
            compare_all(numbered, [])
        assert ended.is_set()


def test_a_search_does_not_wait_for_threads_that_are_busy_with_other_work() -> None:
    rng = np.random.default_rng(11)
    masters = Masters.of(rng, draw_spread(rng, 900), 1)
    matrix, release, found = fill(masters, rng), threading.Event(), []
    vector = masters.vectors[0]
    with ThreadPoolExecutor(2) as busy:
        for _ in range(2):
            busy.submit(release.wait)
        searcher = threading.Thread(
            target=lambda: found.append(matrix.search(busy, SHOPS[0], vector, 10, None, None))
        )
        searcher.start()
        searcher.join(10)
        release.set()
        is_late = not found
        searcher.join()
    assert not is_late
    assert found == [masters.search(0, vector, 10, False, None)]


def test_memory_is_bounded_where_all_vectors_are_nearly_the_same(pool: ThreadPoolExecutor) -> None:
    """Each of them has to be compared in float64, but not all of them at once."""
    vector = np.full(512, 512**-0.5, dtype=np.float32)
    parts, matrix, count = (VectorPart(vector),), VectorMatrix(), 10_000
    for start in range(0, count, 1000):
        ids = [UUID(int=number) for number in range(start, start + 1000)]
        matrix.put_rows([VectorRecord(each, SHOPS[0], parts, {}, 1) for each in ids])
    tracemalloc.start()
    try:
        hits = matrix.search(pool, SHOPS[0], vector, 5, None, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [hit.master_id.int for hit in hits] == list(range(5))
    assert peak < 20e6  # all rows in float64 are 41 MB
