"""Search over 100,000 masters over HTTP, compared with the same work called directly.

    make bench-search
    make bench-search OPTIONS='--only service'     # or vectors: without the service
    make bench-search OPTIONS='--masters 100000'   # vectors: not a million

The bound is decoding, embedding and exact search in this process; p50_over_direct is the ratio of
the median latencies, both on all cores. throughput_fraction is the rate with 8 clients as a share
of the direct path's rate on one core times the cores. livez_p99_ms shows how responsive the service
stays while 32 images of 12 megapixels are uploaded concurrently.

vector_over_numpy is the ratio of the median of a search in memory to that of NumPy's float32
product, in alternation. memory_mb_1m is the private memory of a process with a million masters
without attributes above that of an empty one; float32 vectors are mapped from a file.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.direct import embed_bytes
from benchmarks.matrix_search import measure_direct_rate, measure_matrix, run_alone
from benchmarks.service import (
    Client,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_process,
    time_threads,
    upload_all,
)
from models.capture.reading import READER
from models.embedder import load_embedder
from storage.cores import available_cores
from storage.database import Database
from storage.factory import open_stores
from storage.filter_parser import parse_filter
from storage.metadata import new_id
from storage.records import LOOK, MasterState
from storage.store_urls import StoreUrls
from storage.tables import EmbeddingRow, MasterRow, VectorRow
from storage.vectors_exact import ExactVectorStore

MASTERS = 100_000
BATCH = 5000
ROUNDS, WARM_UP = 200, 10
UPLOADS = 32  # concurrent
CLIENTS = 8
FILTER = {"colour": "red", "price": {"$lt": 50}}  # matches one master in eight
DIRECT, SERVED = "decode, embed and exact search, called directly", "POST /search"


def fill_installation(directory: Path, version: str, masters: int = MASTERS) -> UUID:
    """Make an embedded installation of masters with random vectors and no bytes.

    Returns the id of its default collection.
    """
    url = f"sqlite:///{directory}/lookalike.db"
    stores = open_stores(StoreUrls(url, f"file://{directory}/objects", "embedded:"))
    stores.registry.register_active(version, LOOK)
    collection = stores.metadata.create_collection("default")
    stores.close()
    database = Database(url)
    rng = np.random.default_rng(1)
    for start in track(range(0, masters, BATCH), description="filling the database"):
        vectors = draw_unit_vectors(rng, BATCH)
        rows = [
            make_rows(rng, start + number, collection.id, version, vector)
            for number, vector in enumerate(vectors)
        ]
        with database.write() as connection:
            for table, values in zip(
                (MasterRow, EmbeddingRow, VectorRow), zip(*rows, strict=True), strict=True
            ):
                connection.execute(sa.insert(table), list(values))
    database.close()
    return collection.id


def draw_unit_vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(count, 512)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make_rows(
    rng: np.random.Generator, number: int, collection: UUID, version: str, vector: np.ndarray
) -> tuple[dict[str, object], ...]:
    """Make the rows of one master: itself, its embedding and its vector."""
    id_, digest = new_id(), rng.bytes(32)
    attributes = {
        "colour": ("red", "green", "blue", "black")[number % 4],
        "price": float(rng.integers(0, 10_000)) / 100,
        "sku": f"{number:06}",
    }
    master = {
        "id": id_,
        "collection_id": collection,
        "sha256": digest,
        "live_sha256": digest,
        "size": 1,
        "mime": "image/jpeg",
        "extension": "jpg",
        "width": 1,
        "height": 1,
        "name": f"{number}.jpg",
        "attributes": attributes,
        "revision": 1,
        "state": MasterState.STORED,
        "created_at": 0,
        "updated_at": 0,
        "capture_reader": READER,  # otherwise the worker would try to read the missing files
    }
    embedding = {
        "master_id": id_,
        "model_version": version,
        "state": "indexed",
        "attempts": 0,
        "run_after": 0,
        "indexed_revision": 1,
    }
    stored_vector = {
        "model_version": version,
        "master_id": id_,
        "collection_id": collection,
        "vector": vector.tobytes(),
        "attributes": attributes,
        "revision": 1,
    }
    return master, embedding, stored_vector


def time_ms(work: Callable[[], object]) -> float:
    """Return the milliseconds that one call takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def time_livez_during_uploads(port: int) -> list[float]:
    """Poll /livez while images are uploaded; return the milliseconds of each response."""
    images = make_photographs(UPLOADS * 2, 4000, 3000, seed=77)
    bodies = [encode_form([("file", image)]) for image in images]
    client, times, done = Client(port), [], threading.Event()

    def poll() -> None:
        while not done.is_set():
            times.append(time_ms(lambda: client.get("/livez")))
            time.sleep(0.005)

    poller = threading.Thread(target=poll)
    poller.start()
    upload_all(port, bodies, UPLOADS)
    done.set()
    poller.join()
    return times


@contextmanager
def open_vectors(directory: Path) -> Iterator[ExactVectorStore]:
    """Open the vectors of an installation in this process."""
    database = Database(f"sqlite:///{directory}/lookalike.db")
    store = ExactVectorStore(database)
    store.load()
    yield store
    store.close()
    database.close()


def time_rounds(work: dict[str, Callable[[int], object]]) -> dict[str, list[float]]:
    """Call each entry in turn with the number of the round; return milliseconds by name."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-WARM_UP, ROUNDS):
        for name, call in work.items():
            elapsed = time_ms(lambda: call(number))
            if number >= 0:
                times[name].append(elapsed)
    return times


def search_concurrently(port: int, bodies: list[bytes]) -> float:
    """Send all searches with several clients; return searches per second."""

    def work(number: int) -> None:
        client = Client(port)
        for body in bodies[number::CLIENTS]:
            client.post("/search", body)

    return len(bodies) / time_threads(work, CLIENTS)


def print_times(times: dict[str, list[float]]) -> None:
    table = Table(title=f"{MASTERS:,} masters, {ROUNDS} alternating rounds, ms")
    for column in ("", "p50", "p95"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in times.items():
        p95 = np.percentile(values, 95)
        table.add_row(name, f"{statistics.median(values):.1f}", f"{p95:.1f}")
    Console().print(table)


def measure_service(result: dict[str, float]) -> None:
    """Compare searches over HTTP with the same work called directly."""
    embedder = load_embedder(slots=available_cores())
    embed_bytes(embedder, make_photographs(1, 448, 336)[0], all_cores=True)  # compiles it
    version = embedder.model_version
    samples = make_photographs(ROUNDS, 448, 336, seed=9)
    bodies = [encode_form([("sample", image)], {"k": "10"}) for image in samples]
    fields = {"k": "10", "filter": json.dumps(FILTER)}
    filtered = [encode_form([("sample", image)], fields) for image in samples]
    condition = parse_filter(FILTER)
    vectors = draw_unit_vectors(np.random.default_rng(2), ROUNDS)
    with tempfile.TemporaryDirectory() as directory:
        collection = fill_installation(Path(directory), version)
        direct = [run_alone(measure_direct_rate, directory, collection, samples)]
        port = find_free_port()
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        command = [sys.executable, "api.py"]
        with (
            open_vectors(Path(directory)) as store,
            run_process(command, "/readyz", environment, port) as service,
        ):
            client = Client(port)

            def search(vector: NDArray[np.float32], *condition: object) -> None:
                store.search(version, collection, vector, 10, *condition)  # type: ignore[arg-type]

            times = time_rounds(
                {
                    "exact vector search": lambda n: search(vectors[n]),
                    "exact vector search with a filter": lambda n: search(vectors[n], condition),
                    DIRECT: lambda n: search(embed_bytes(embedder, samples[n], all_cores=True)),
                    SERVED: lambda n: client.post("/search", bodies[n]),
                    "POST /search with a filter": lambda n: client.post("/search", filtered[n]),
                }
            )
            rate = search_concurrently(port, bodies)
            livez = time_livez_during_uploads(port)
            resident = service.resident_mb()
        direct.append(run_alone(measure_direct_rate, directory, collection, samples))
    print_times(times | {f"GET /livez during {UPLOADS} uploads": livez})
    print(f"{CLIENTS} concurrent clients: {rate:.0f} searches/s.")
    print(f"Ready {service.ready_after:.1f} s after the start, {resident:.0f} MB resident.")
    bound = statistics.mean(direct) * available_cores()
    ratio = statistics.median(times[SERVED]) / statistics.median(times[DIRECT])
    result["p50_over_direct"] = round(ratio, 3)
    result["throughput_fraction"] = round(rate / bound, 3)
    result["livez_p99_ms"] = round(float(np.percentile(livez, 99)), 1)


def measure_vectors(masters: int, result: dict[str, float]) -> None:
    """Compare exact search in memory with NumPy's product, over 100 000 masters and more."""
    small = run_alone(measure_matrix, MASTERS)
    result["vector_ms_100k"] = round(small["search_ms"], 2)
    result["vector_over_numpy"] = round(small["search_ms"] / small["numpy_ms"], 3)
    if masters > MASTERS:
        large = run_alone(measure_matrix, masters)
        print(
            f"{masters:,} masters: {large['search_ms']:.1f} ms, NumPy {large['numpy_ms']:.1f} ms."
        )
        result["vector_over_numpy_1m"] = round(large["search_ms"] / large["numpy_ms"], 3)
        result["memory_mb_1m"] = round(large["memory_mb"])


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=("service", "vectors"), help="measure one part")
    parser.add_argument(
        "--masters", type=int, default=1_000_000, help="the most of the part without the service"
    )
    options = parser.parse_args()
    result: dict[str, float] = {}
    if options.only != "vectors":
        measure_service(result)
    if options.only != "service":
        measure_vectors(options.masters, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
