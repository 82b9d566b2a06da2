"""The service over MariaDB, SeaweedFS and Milvus: uploads beside the embedded default, two replicas beside one, and the
Milvus store at 100 000 and 1 000 000 vectors. It starts the servers itself and stops them again.

    make bench-stack                                              all of it
    python -m benchmarks.bench_stack --only vectors --largest 300000

Tests run Milvus with a time tick of 20 ms instead of its 200, and so does this: Strong waits for a tick.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from app.settings import cores
from benchmarks.service import Client, form, lookalike, photographs, upload_all
from benchmarks.sizes import embedded_bytes, mariadb_bytes
from benchmarks.stack import PAUSE, cpu_seconds, milvus_alone, process_of, stack
from storage.records import DIMENSION, VectorRecord
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support.servers import Server, mariadb

CLIENTS, RUNS = 8, 5
UPLOADS = 300  # images a run, 448 x 336
REPLICA_UPLOADS = 80
SEARCHES = 300
STAGES = {100_000: "100k", 1_000_000: "1m"}
QUERIES, NEAREST = 500, 10
CHUNK = 10_000
SIZED = 100_000  # masters from which a million's size is told
QUIET = 90.0  # seconds: Milvus looks for segments to merge once a minute
LONGEST = 3600.0  # seconds
EFS = (32, 64, 128, 256)
VERSION, COLLECTION = "benchmark", UUID(int=1 << 127)
Level = str  # of consistency


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def progressing() -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
    )
    with Progress(
        *columns, _Rate(), TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as progress:
        yield progress


def table_of(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def ingest(console: Console, largest: int) -> dict[str, float | None]:
    """Uploads of the embedded default and of the stack in turn, then searches of two API processes over what was put in."""
    names = ("embedded", "servers")
    rates: dict[str, list[float]] = {name: [] for name in names}
    spent: dict[str, dict[str, float]] = {name: {} for name in names}  # CPU seconds by process
    walls = dict.fromkeys(names, 0.0)
    with progressing() as progress, stack() as servers:
        servers.upgrade()
        with lookalike() as embedded, servers.api() as strong, servers.worker() as worker:
            processes = {server.name: process_of(server) for server in servers.servers}
            processes |= {
                "embedded service": embedded.process,
                "API process": strong.process,
                "worker": worker,
            }

            def cpu() -> dict[str, float]:
                return {name: cpu_seconds(process) for name, process in processes.items()} | {
                    "clients": time.process_time()
                }

            task = progress.add_task("ingest: uploads", total=(RUNS + 1) * UPLOADS * len(names))
            for run in range(RUNS + 1):  # the first one warms up
                bodies = [
                    form([("file", image)]) for image in photographs(UPLOADS, 448, 336, seed=run)
                ]
                for name in names if run % 2 else names[::-1]:
                    before = cpu()
                    rate = upload_all(
                        embedded.port if name == "embedded" else strong.port, bodies, CLIENTS
                    )
                    progress.advance(task, UPLOADS)
                    if run:
                        rates[name].append(rate)
                        walls[name] += UPLOADS / rate
                        for who, seconds in cpu().items():
                            spent[name][who] = spent[name].get(who, 0.0) + seconds - before[who]
            size = sum(map(len, bodies)) / len(bodies) / 1000
            with servers.api(milvus_consistency="Bounded") as bounded:
                times = search_times(progress, {"Strong": strong.port, "Bounded": bounded.port})
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))

    title = f"Ingest, {CLIENTS} clients, {RUNS} alternating runs of {UPLOADS} images of {size:.0f} kB, images/s"
    table = table_of(title, "", "median", "min", "max", "ratio")
    for name, values in rates.items():
        of = "" if name == "embedded" else f"{ratio:.3f}"
        table.add_row(
            name, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}", of
        )
    console.print(table)
    table = table_of("CPU milliseconds of an upload; idle processes, too", "", *names)
    for who in spent["embedded"]:
        table.add_row(who, *(f"{spent[name][who] / RUNS / UPLOADS * 1000:.1f}" for name in names))
    busy = (f"{sum(spent[name].values()) / walls[name] / cores():.0%}" for name in names)
    table.add_row(f"of {cores()} cores in use", *busy, end_section=True)
    console.print(table)
    title = f"POST /search over {(RUNS + 1) * UPLOADS} masters, one client, {SEARCHES} of each in turn, milliseconds"
    table = table_of(title, "", "p50", "p99")
    for level, values in times.items():
        table.add_row(level, *(f"{np.percentile(values, percent):.1f}" for percent in (50, 99)))
    console.print(table)
    return {"ingest_vs_embedded": round(ratio, 3)}


def search_times(progress: Progress, ports: dict[Level, int]) -> dict[Level, list[float]]:
    """Milliseconds of each search, the processes asked in turn."""
    warm_up = 20
    bodies = [
        form([("sample", image)], {"k": "10"})
        for image in photographs(warm_up + SEARCHES, 448, 336, seed=1000)
    ]
    clients = {level: Client(port) for level, port in ports.items()}
    times: dict[Level, list[float]] = {level: [] for level in ports}
    for number, body in enumerate(progress.track(bodies, description="ingest: searches")):
        for level, client in clients.items():
            start = time.perf_counter()
            client.post("/search", body)
            if number >= warm_up:
                times[level].append((time.perf_counter() - start) * 1000)
    return times


def replicas(console: Console, largest: int) -> dict[str, float | None]:
    """Uploads through one and through two replicas in turn; a network that sleeps leaves the cores to what is measured."""
    rates: tuple[list[float], list[float]] = ([], [])
    with progressing() as progress, stack() as servers:
        servers.upgrade()
        program = ("-m", "benchmarks.stack")
        with (
            servers.api(*program, slots="1") as one,
            servers.api(*program, slots="1") as other,
            servers.worker(),
        ):
            task = progress.add_task("replicas: uploads", total=(RUNS + 1) * REPLICA_UPLOADS * 2)
            for run in range(RUNS + 1):  # the first one warms up
                images = photographs(REPLICA_UPLOADS * 2, 448, 336, seed=2000 + run)
                bodies = [form([("file", image)]) for image in images]
                alone = upload_all(one.port, bodies[:REPLICA_UPLOADS], CLIENTS)
                progress.advance(task, REPLICA_UPLOADS)
                both = upload_all([one.port, other.port], bodies[REPLICA_UPLOADS:], CLIENTS)
                progress.advance(task, REPLICA_UPLOADS)
                if run:
                    rates[0].append(alone)
                    rates[1].append(both)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    title = f"API replicas whose network sleeps {PAUSE * 1000:.0f} ms, {CLIENTS} clients, {RUNS} alternating runs, images/s"
    table = table_of(title, "", "median", "min", "max", "ratio")
    for name, values, of in (("one", rates[0], ""), ("two", rates[1], f"{ratio:.2f}")):
        table.add_row(
            name, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}", of
        )
    console.print(table)
    return {"two_replicas": round(ratio, 2)}


class Clustered:
    """Unit vectors that lie as photographs' embeddings do: clusters, and variances that fall off with a power of the rank.

    Set beside this model's embeddings of Caltech-101 and GroceryStoreDataset at equal numbers: cosine of a vector to its
    nearest .73 (theirs: .70, .80), to its tenth nearest .64 (.56, .54), local intrinsic dimension 9 (12, 11), first
    principal component 9 % of the variance (5 %, 7 %); two of a cluster are at .61 (.49, .41). At 100 000 the local
    dimension is 16: not easier than the real ones.
    """

    CLUSTERS, SPREAD = 2000, 0.8

    def __init__(self) -> None:
        rank = np.arange(1, DIMENSION + 1, dtype=np.float32)
        among, within = rank**-0.4, rank**-0.5
        self._noise = within / np.linalg.norm(within) * self.SPREAD
        random = np.random.default_rng(0)
        self._centres = (
            random.standard_normal((self.CLUSTERS, DIMENSION), dtype=np.float32)
            * among
            / np.linalg.norm(among)
        )

    def draw(self, count: int, seed: int) -> NDArray[np.float32]:
        """``(count, 512)`` float32, rows of length 1."""
        random = np.random.default_rng((1, seed))
        vectors = random.standard_normal((count, DIMENSION), dtype=np.float32) * self._noise
        vectors += self._centres[random.integers(0, self.CLUSTERS, count)]
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class Truth:
    """The nearest of each query among all vectors seen so far, exactly; a chunk at a time, so that memory stays low."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self._queries = queries
        self._similarities = np.full((len(queries), NEAREST), -np.inf, dtype=np.float32)
        self.numbers = np.full((len(queries), NEAREST), -1)

    def add(self, first: int, vectors: NDArray[np.float32]) -> None:
        """``vectors`` are those of the numbers from ``first`` on."""
        similarities = np.hstack([self._similarities, self._queries @ vectors.T])
        chosen = np.argpartition(-similarities, NEAREST, axis=1)[:, :NEAREST]
        numbers = np.broadcast_to(
            np.arange(first, first + len(vectors)), (len(self._queries), len(vectors))
        )
        self.numbers = np.take_along_axis(np.hstack([self.numbers, numbers]), chosen, axis=1)
        self._similarities = np.take_along_axis(similarities, chosen, axis=1)


@dataclass(frozen=True)
class Measured:
    recall: float
    p50: float  # milliseconds
    p99: float


def measure(
    progress: Progress,
    stores: dict[str, MilvusVectorStore],
    queries: NDArray[np.float32],
    truth: Truth,
) -> dict[str, Measured]:
    """One client, the stores asked in turn."""
    times: dict[str, list[float]] = {name: [] for name in stores}
    found = dict.fromkeys(stores, 0)
    task = progress.add_task("vectors: searches", total=len(queries))
    for number in range(-20, len(queries)):  # the first twenty warm up
        for name, store in stores.items():
            start = time.perf_counter()
            hits = store.search(VERSION, COLLECTION, queries[number], NEAREST)
            if number >= 0:
                times[name].append((time.perf_counter() - start) * 1000)
                found[name] += len(
                    {hit.master_id.int for hit in hits} & set(truth.numbers[number].tolist())
                )
        progress.update(task, completed=max(0, number + 1))
    progress.remove_task(task)
    return {
        name: Measured(
            found[name] / truth.numbers.size,
            *(float(np.percentile(times[name], percent)) for percent in (50, 99)),
        )
        for name in stores
    }


def settle(
    progress: Progress, server: Server, client: MilvusClient, rows: int
) -> tuple[float, float, list[int]]:
    """Wait until every row is indexed and loaded and nothing has been merged for a while.

    Seconds until all was indexed first, seconds until the last change, rows of the segments.
    """
    (name,) = client.list_collections()
    client.flush(name, timeout=600)
    start = time.monotonic()
    indexed_after = 0.0
    changed, before = 0.0, None
    task = progress.add_task("vectors: indexing", total=rows)
    while (now := time.monotonic() - start) < LONGEST:
        if not server.alive:
            raise RuntimeError("Milvus died; its log says why, or the kernel's if memory ran out")
        index = client.describe_index(name, "vector")
        stored = {segment.segment_id for segment in client.list_persistent_segments(name)}
        # an index's name says that the index is loaded, not only the vectors; under 1024 rows there is none
        loaded = {
            s.segment_id: s.num_rows
            for s in client.list_loaded_segments(name)
            if s.index_name or s.num_rows < 1024
        }
        progress.update(task, completed=rows - index["pending_index_rows"])
        done = (
            index["pending_index_rows"] == 0
            and stored == loaded.keys()
            and sum(loaded.values()) == rows
        )
        if done and not indexed_after:
            indexed_after = now
            progress.console.print(
                f"{rows:,} rows: all indexed after {now:.0f} s; waiting until nothing is merged any more"
            )
        if (state := (done, loaded)) != before:
            changed, before = now, state
        if done and now - changed >= QUIET:
            progress.remove_task(task)
            return indexed_after, changed, sorted(loaded.values(), reverse=True)
        time.sleep(1)
    raise RuntimeError(f"Milvus has not come to rest after {LONGEST:.0f} s")


def memory_mb(server: Server) -> tuple[float, float]:
    """Resident now, and at most so far."""
    status = Path(f"/proc/{process_of(server).pid}/status").read_text()
    resident, peak = (
        int(status.split(f"{field}:")[1].split()[0]) / 1024 for field in ("VmRSS", "VmHWM")
    )
    return resident, peak


def disk_mb(directory: Path) -> float:
    total = 0
    for folder, _, files in os.walk(directory):
        for file in files:
            try:
                total += (Path(folder) / file).lstat().st_blocks * 512
            except FileNotFoundError:  # Milvus tidies up meanwhile
                continue
    return total / 1e6


def put_in(
    progress: Progress, store: MilvusVectorStore, clustered: Clustered, truth: Truth, numbers: range
) -> tuple[float, float]:
    """Upsert the vectors of these numbers; vectors/s, and CPU milliseconds of this process for a thousand of them."""
    task = progress.add_task("vectors: upserts", total=len(numbers))
    seconds = cpu = 0.0
    for first in range(numbers.start, numbers.stop, CHUNK):
        vectors = clustered.draw(min(CHUNK, numbers.stop - first), seed=first)
        truth.add(first, vectors)
        records = [
            VectorRecord(UUID(int=first + n), COLLECTION, vector, {"shelf": n % 100}, 1)
            for n, vector in enumerate(vectors)
        ]
        start, cpu_start = time.perf_counter(), time.process_time()
        store.upsert(VERSION, records)
        seconds += time.perf_counter() - start
        cpu += time.process_time() - cpu_start
        progress.advance(task, len(vectors))
    progress.remove_task(task)
    return len(numbers) / seconds, cpu / len(numbers) * 1e6


def vectors(console: Console, largest: int) -> dict[str, float | None]:
    """Recall and latency of the Milvus store with the default index, and what Milvus takes of memory and disk.

    Rows go in as production writes them, by upsert (insert is little faster). What is measured "just put in" has neither been
    flushed nor indexed, as after a large import; "settled" has been flushed, indexed, merged and indexed again.
    """
    clustered = Clustered()
    queries = clustered.draw(QUERIES, seed=1 << 40)
    truth = Truth(queries)
    result: dict[str, float | None] = {}
    searches = table_of(
        "Milvus", "vectors", "", "consistency", f"recall@{NEAREST}", "p50 ms", "p99 ms"
    )
    by_ef = table_of(
        "Settled, under Bounded, by LOOKALIKE_MILVUS_EF",
        "vectors",
        "ef",
        f"recall@{NEAREST}",
        "p50 ms",
        "p99 ms",
    )
    sizes: list[dict[str, str]] = []  # of each stage
    bounded_p50: dict[int, float] = {}
    with progressing() as progress, milvus_alone() as server:

        def opened(**options: object) -> MilvusVectorStore:
            return MilvusVectorStore(server.url, MilvusOptions(**options), timeout=60)  # type: ignore[arg-type]

        def add(rows: int, when: str, measured: dict[str, Measured]) -> None:
            for level, values in measured.items():
                cells = (f"{values.recall:.4f}", f"{values.p50:.1f}", f"{values.p99:.1f}")
                searches.add_row(f"{rows:,}", when, level, *cells)
                progress.console.print(
                    f"{rows:,} vectors {when}, {level}: recall, p50, p99", *cells
                )

        client = MilvusClient(uri=server.url, timeout=60)
        levels = {level: opened(consistency=level) for level in ("Strong", "Bounded")}
        with_ef = {str(ef): opened(consistency="Bounded", ef=ef) for ef in EFS}
        data, before = server.directory / "data", 0
        for rows in sorted({min(100_000, largest), largest}):
            rate, client_cpu = put_in(
                progress, levels["Strong"], clustered, truth, range(before, rows)
            )
            progress.console.print(f"{rows:,} vectors are in, {rate:,.0f} a second")
            add(rows, "just put in", measure(progress, levels, queries, truth))
            indexed_after, settled_after, segments = settle(progress, server, client, rows)
            settled = measure(progress, levels, queries, truth)
            add(rows, "settled", settled)
            for ef, values in measure(progress, with_ef, queries, truth).items():
                by_ef.add_row(
                    f"{rows:,}",
                    ef,
                    f"{values.recall:.4f}",
                    f"{values.p50:.1f}",
                    f"{values.p99:.1f}",
                )
            idle, start = cpu_seconds(process_of(server)), time.perf_counter()
            time.sleep(10)
            idle = (cpu_seconds(process_of(server)) - idle) / (time.perf_counter() - start)
            resident, peak = memory_mb(server)
            sizes.append(
                {
                    "vectors": f"{rows:,}",
                    "upserts/s": f"{rate:,.0f}",
                    "client's CPU, ms for 1000 upserts": f"{client_cpu:.0f}",
                    "all indexed after, s": f"{indexed_after:.0f}",
                    "settled after, s": f"{settled_after:.0f}",
                    "segments": f"{len(segments)}",
                    "rows of the largest": f"{segments[0]:,}",
                    "resident, MB": f"{resident:,.0f}",
                    "resident at most so far, MB": f"{peak:,.0f}",
                    "on disk, MB": f"{disk_mb(data):,.0f}",
                    "of it message log, MB": f"{disk_mb(data / 'rocksmq'):,.0f}",
                    "idle, of one core": f"{idle:.0%}",
                }
            )
            progress.console.print(sizes[-1])
            bounded_p50[rows] = settled["Bounded"].p50
            if rows in STAGES:
                result[f"recall10_{STAGES[rows]}"] = round(settled["Bounded"].recall, 4)
                result[f"p50_ms_{STAGES[rows]}"] = round(settled["Bounded"].p50, 2)
            before = rows
        for store in (*levels.values(), *with_ef.values()):
            store.close()
        client.close()
    by_stage = table_of("What Milvus takes", *("vectors", *(stage["vectors"] for stage in sizes)))
    for name in list(sizes[0])[1:]:
        by_stage.add_row(name, *(stage[name] for stage in sizes))
    for table in (searches, by_ef, by_stage):
        console.print(table)
    smallest, biggest = min(bounded_p50), max(bounded_p50)
    growth = bounded_p50[biggest] / bounded_p50[smallest]
    console.print(
        f"p50 under Bounded, {biggest:,} over {smallest:,} vectors: {growth:.2f} times",
        highlight=False,
    )
    return result


def sizes(console: Console, largest: int) -> dict[str, float | None]:
    """What masters take on disk, in MariaDB and in the embedded database with their vectors."""
    table = table_of("On disk, a million masters with small attributes", "", "GB")
    with (
        progressing() as progress,
        tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory,
    ):
        server = mariadb(Path(directory) / "mariadb")
        try:
            server.start()
            taken = {"MariaDB": mariadb_bytes(server, SIZED, progress)}
        finally:
            server.kill()
        taken["embedded, with vectors"] = embedded_bytes(Path(directory), SIZED, progress)
    for name, size in taken.items():
        table.add_row(name, f"{size / SIZED / 1000:.1f}")
    console.print(table)
    return {}


PARTS: dict[str, Callable[[Console, int], dict[str, float | None]]] = {
    "ingest": ingest,
    "replicas": replicas,
    "sizes": sizes,
    "vectors": vectors,
}
KEYS = (
    "ingest_vs_embedded",
    "two_replicas",
    "recall10_100k",
    "recall10_1m",
    "p50_ms_100k",
    "p50_ms_1m",
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    def parts(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - PARTS.keys():
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}"
            )
        return chosen

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_stack", description="The service on its servers."
    )
    parser.add_argument(
        "--only",
        type=parts,
        default=list(PARTS),
        metavar="PARTS",
        help=f"some of {','.join(PARTS)}",
    )
    parser.add_argument(
        "--largest",
        type=int,
        default=1_000_000,
        metavar="N",
        help="vectors at most; default 1000000",
    )
    return parser.parse_args(given)


def main() -> None:
    options = arguments()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that the servers stop and their directories go
    console = Console(width=None if sys.stdout.isatty() else 160)
    result: dict[str, float | None] = dict.fromkeys(KEYS)  # null is what was not measured
    for name in options.only:
        start = time.perf_counter()
        result |= PARTS[name](console, options.largest)
        console.print(f"{name}: {time.perf_counter() - start:.0f} s\n", highlight=False)
    sys.stdout.flush()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
