"""Exact search in memory beside NumPy's product, and the memory of the process that holds it.

Each function runs in a process of its own, so that memory and processor cores are its own.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storage.cores import available_cores
from storage.records import VectorPart, VectorRecord
from storage.vector_matrix import VectorMatrix

_BATCH = 5000
_DIMENSION = 512
_COLLECTION = UUID(int=1)
_PAUSE = 0.05  # seconds after a product, while BLAS's threads wait in a loop for the next one
_ROUNDS = {100_000: 200, 1_000_000: 40}


def run_alone(work: Callable[..., Any], *given: object) -> Any:
    """Call a function in a new process, and return what it returns."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *given).result()


def draw_unit_vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, _DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def measure_matrix(masters: int) -> dict[str, float]:
    """Fill a matrix with masters without attributes, and search it in turn with NumPy.

    Returns the median milliseconds of both, and the private memory in MB above an empty process.
    float32 vectors lie in a file that is mapped into memory: only their pages that searches read
    are resident, and the system may drop them.
    """
    empty = _private_mb()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "vectors")
        matrix = _fill(path, masters)
        memory = _private_mb() - empty
        times = _time_searches(matrix, np.fromfile(path, np.float32), _ROUNDS.get(masters, 100))
    return {**times, "memory_mb": memory}


def _fill(path: Path, masters: int) -> VectorMatrix:
    """Fill a matrix whose full blocks have their float32 vectors in a file."""
    rng, matrix = np.random.default_rng(1), VectorMatrix()
    with path.open("wb") as file:
        for start in range(0, masters, _BATCH):
            vectors = draw_unit_vectors(rng, min(_BATCH, masters - start))
            vectors.tofile(file)
            # Random in their lower half, and in order of time in the upper one, as a master's id.
            lower = rng.integers(1 << 62, size=len(vectors)).tolist()
            matrix.put_rows(
                [
                    VectorRecord(
                        UUID(int=(start + row) << 64 | low), _COLLECTION, (VectorPart(each),), {}, 1
                    )
                    for row, (each, low) in enumerate(zip(vectors, lower, strict=True))
                ]
            )
    row = 0
    for block in list(matrix._blocks.values())[:-1]:
        shape, offset = (block.size, _DIMENSION), row * _DIMENSION * 4
        block.vectors = np.memmap(path, np.float32, mode="r", offset=offset, shape=shape)
        row += block.size
    return matrix


def _time_searches(
    matrix: VectorMatrix, numbers: NDArray[np.float32], rounds: int
) -> dict[str, float]:
    vectors = numbers.reshape(-1, _DIMENSION)
    times: dict[str, list[float]] = {"search_ms": [], "numpy_ms": []}
    cores = available_cores()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores) as pool:
        for query in draw_unit_vectors(np.random.default_rng(2), rounds):
            start = time.perf_counter()
            matrix.search(pool, _COLLECTION, query, 10, None, None)
            times["search_ms"].append(time.perf_counter() - start)
            with threadpool_limits(cores, "blas"):
                start = time.perf_counter()
                vectors @ query
                times["numpy_ms"].append(time.perf_counter() - start)
            time.sleep(_PAUSE)
    return {name: statistics.median(values) * 1000 for name, values in times.items()}


def measure_direct_rate(directory: str, collection: UUID, images: Sequence[bytes]) -> float:
    """Decode, embed and search on one core; return images per second."""
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    # The number of cores counts from here on.
    from benchmarks.bench_search import open_vectors
    from benchmarks.direct import embed_bytes
    from models.embedder import load_embedder

    embedder = load_embedder(slots=1)
    with open_vectors(Path(directory)) as store:
        for start in (0.0, time.perf_counter()):  # the first round is the warm-up
            for image in images if start else images[:10]:
                vector = embed_bytes(embedder, image)
                store.search(embedder.model_version, collection, vector, 10)
        return len(images) / (time.perf_counter() - start)


def _private_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024
