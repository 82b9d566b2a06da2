"""Compares queries with the rows of the matrix, all of them in one pass over memory.

The pass is bound by the bandwidth of memory, so each row is read once for all queries. What it
leaves are few rows per query, which ``decide_hits`` compares with float64 numbers.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.cores import available_cores
from storage.records import VectorHit
from storage.vector_blocks import VectorBlock, gather
from storage.vector_kernel import Products, prepare_products
from storage.vector_queries import Candidates, Query, View

_ROWS = 16_384  # compared at once; their products fit in a processor's cache
_FIRST_ROWS = 2048  # compared before others: they bound how similar a hit must be
_SPARSE = 4  # gathering fewer than one row in so many is faster than reading all
_LEAST_PARALLEL = 20_000  # rows from which several cores are faster than one
_EXACT_ROWS = 64  # compared in float64 at first
_MOST_EXACT_ROWS = 1024  # whose numbers in float64 are in memory at once


@dataclass(frozen=True)
class _Group:
    """Queries that read the same rows of a block."""

    queries: Sequence[tuple[Query, int]]  # each with the number of its view of the block
    products: Products


@dataclass(frozen=True)
class _Task:
    """Some rows of a block that are to be compared with a group of queries."""

    group: _Group
    block: VectorBlock
    first: int
    end: int
    rows: NDArray[np.int64] | None = None  # among which these are places; None: all rows

    def compare(self, buffers: _Buffers) -> None:
        """Tell each query which of the rows may be its hits."""
        block, queries = self.block, self.group.queries
        rows = slice(self.first, self.end)
        some = rows if self.rows is None else self.rows[rows]
        shape = (self.end - self.first, len(queries))
        products, scaled = buffers.products(shape), buffers.scaled(shape)
        self.group.products(block.codes[some], products)
        with np.errstate(over="ignore"):  # infinity is compared as it should be
            least = np.array([query.least_product(block) for query, _ in queries], np.float32)
            scales = block.scales[some][:, np.newaxis]
            np.multiply(products, scales, out=scaled, dtype=np.float32, casting="unsafe")
        places = np.flatnonzero(scaled >= least)
        if not len(places):
            return
        found, which = np.divmod(places, len(queries))
        for index, (query, number) in enumerate(queries):
            mine = found[which == index]
            numbers = mine + self.first
            query.add(
                number,
                numbers if self.rows is None else self.rows[numbers],
                products[mine, index],
            )


@dataclass
class _Buffers:
    """Memory for the products of one thread, which each task overwrites."""

    queries: int
    _products: NDArray[np.int32] = field(init=False)
    _scaled: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._products = np.empty(_ROWS * self.queries, dtype=np.int32)
        self._scaled = np.empty(_ROWS * self.queries, dtype=np.float32)

    def products(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        return self._products[: shape[0] * shape[1]].reshape(shape)

    def scaled(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        return self._scaled[: shape[0] * shape[1]].reshape(shape)


def compare_all(pool: ThreadPoolExecutor, queries: Sequence[Query]) -> None:
    """Compare each query with the rows of its views; the queries note which may be hits."""
    for query in queries:
        query.restart()
    tasks = deque(_plan(queries))
    rows = sum(task.end - task.first for task in tasks)

    def work() -> None:
        buffers = _Buffers(len(queries))
        while True:
            try:
                task = tasks.popleft()
            except IndexError:
                return
            task.compare(buffers)

    threads = available_cores() if rows >= _LEAST_PARALLEL else 1
    others = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        tasks.clear()
        # One that has not begun has nothing left to do, and on a busy core it may begin much later.
        others = [other for other in others if not other.cancel()]
        wait(others)  # also if one has failed: the queries may be compared again
    for other in others:
        other.result()


def _plan(queries: Sequence[Query]) -> list[_Task]:
    """Return the tasks of a pass."""
    shared: defaultdict[tuple[int, int], list[tuple[Query, int]]] = defaultdict(list)
    blocks: dict[int, VectorBlock] = {}
    tasks = []
    for query in queries:
        for number, view in enumerate(query.views):
            rows = _few_rows(view)
            if rows is None:
                blocks[id(view.block)] = view.block
                shared[id(view.block), view.size].append((query, number))
            elif len(rows):
                group = _Group([(query, number)], prepare_products(query.codes[np.newaxis]))
                tasks += _split(group, view.block, len(rows), rows)
    prepared: dict[tuple[int, ...], Products] = {}
    for (block, size), members in shared.items():
        key = tuple(id(query) for query, _ in members)
        is_first = key not in prepared
        if is_first:
            prepared[key] = prepare_products(np.array([query.codes for query, _ in members]))
        group = _Group(members, prepared[key])
        tasks += _split(group, blocks[block], size, first_rows=_FIRST_ROWS if is_first else 0)
    return tasks


def _few_rows(view: View) -> NDArray[np.int64] | None:
    """Return the chosen rows if they are so few that they are gathered."""
    if view.chosen is None or np.count_nonzero(view.chosen) * _SPARSE >= view.size:
        return None
    return np.flatnonzero(view.chosen)


def _split(
    group: _Group,
    block: VectorBlock,
    count: int,
    rows: NDArray[np.int64] | None = None,
    first_rows: int = 0,
) -> list[_Task]:
    starts = [0, *range(min(first_rows, count) or _ROWS, count, _ROWS)]
    return [
        _Task(group, block, start, end, rows)
        for start, end in zip(starts, [*starts[1:], count], strict=True)
        if start < end
    ]


def decide_hits(query: Query) -> list[VectorHit]:
    """Return the hits among the rows that a pass has left, by distances in float64.

    The sum of products runs row by row, so that equal vectors tie in any row.
    """
    candidates = query.candidates()
    query.forget_masters()
    decided: list[tuple[Candidates, NDArray[np.float64]]] = []
    start, count = 0, max(query.limit, _EXACT_ROWS)
    while start < len(candidates) and candidates.greatest[start] >= query.floor:
        some = candidates[start : start + count]
        some = some[np.lexsort((some.rows, some.numbers))]
        products = _exact_products(query, some)
        query.raise_floor(some.firsts, products)
        decided.append((some, np.clip(np.round(1.0 - products, 6), 0.0, 2.0)))
        start, count = start + count, count * 2
    return _order(query, decided)


def _exact_products(query: Query, some: Candidates) -> NDArray[np.float64]:
    """Compare some candidates, which are sorted by their views."""
    vectors = [view.block.vectors for view in query.views]
    products = np.empty(len(some))
    for start in range(0, len(some), _MOST_EXACT_ROWS):
        piece = slice(start, start + _MOST_EXACT_ROWS)
        near = gather(vectors, some.numbers[piece], some.rows[piece]).astype(np.float64)
        near *= query.vector
        near.sum(axis=1, out=products[piece])
    return products


def _order(
    query: Query, decided: Sequence[tuple[Candidates, NDArray[np.float64]]]
) -> list[VectorHit]:
    """Return the nearest part of each master, by distance, then by id."""
    found: dict[UUID, VectorHit] = {}
    if not decided:
        return []
    numbers, rows, distances = (
        np.concatenate(column)
        for column in zip(*((each.numbers, each.rows, its) for each, its in decided), strict=True)
    )
    if query.max_distance is not None:
        near = distances <= query.max_distance
        numbers, rows, distances = numbers[near], rows[near], distances[near]
    by_view = np.argsort(numbers, kind="stable")
    numbers, rows, distances = numbers[by_view], rows[by_view], distances[by_view]
    ids = gather([view.block.ids for view in query.views], numbers, rows)
    parts = gather([view.block.parts for view in query.views], numbers, rows)
    for place in np.lexsort((parts, ids[:, 1], ids[:, 0], distances)):
        if len(found) == query.limit:
            break
        block = query.views[numbers[place]].block
        hit = block.hit(int(rows[place]), float(distances[place]))
        found.setdefault(hit.master_id, hit)
    return list(found.values())
