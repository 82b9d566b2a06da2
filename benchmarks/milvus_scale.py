"""Recall and latency of the Milvus store with the default index, and the resources that it uses.

The bound is exact search: recall@10 is the share of the ten nearest vectors that Milvus finds.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from pymilvus import MilvusClient
from rich.console import Console
from rich.progress import Progress

from benchmarks.reporting import make_table, show_progress
from benchmarks.stack import read_cpu_seconds, require_process, run_milvus
from benchmarks.synthetic_vectors import ClusteredVectors, ExactNeighbours
from storage.records import VectorRecord, whole_image
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support.servers import Server

STAGES = {100_000: "100k", 1_000_000: "1m"}  # number of vectors -> suffix of the result's keys
QUERIES, NEAREST, WARM_UP = 500, 10, 20
BATCH = 10_000
QUIET = 90.0  # seconds; Milvus checks for segments to merge once a minute
SETTLE_TIMEOUT = 3600.0  # seconds
IDLE = 10.0  # seconds over which the idle CPU time is measured
EF_VALUES = (32, 64, 128, 256)
VERSION, COLLECTION = "benchmark", UUID(int=1 << 127)
UNINDEXED_ROWS = 1024  # Milvus builds no index for a segment with fewer rows


@dataclass(frozen=True)
class SearchFigures:
    recall: float
    p50: float  # milliseconds
    p99: float

    def cells(self) -> tuple[str, str, str]:
        return f"{self.recall:.4f}", f"{self.p50:.1f}", f"{self.p99:.1f}"


@dataclass(frozen=True)
class Settled:
    """The state of Milvus when indexing and merging after a flush have ended."""

    indexed_after: float  # seconds until every row was indexed for the first time
    settled_after: float  # seconds until the last change
    segments: list[int]  # rows of each segment, largest first


def measure_milvus(console: Console, largest: int) -> dict[str, float | None]:
    """Measure at 100,000 vectors and at ``largest``, and print the tables.

    Rows are written by upsert, as in production; insert is little faster. "Just written" means
    neither flushed nor indexed, as after a large import. "Settled" means flushed, indexed, merged
    and indexed again.
    """
    result: dict[str, float | None] = {}
    with show_progress() as progress, run_milvus() as server:
        scale = _MilvusScale(progress, server)
        for rows in sorted({min(100_000, largest), largest}):
            bounded = scale.grow_to(rows)
            if rows in STAGES:
                result[f"recall10_{STAGES[rows]}"] = round(bounded.recall, 4)
                result[f"p50_ms_{STAGES[rows]}"] = round(bounded.p50, 2)
        scale.close()
    scale.print_tables(console)
    return result


class _MilvusScale:
    """One Milvus that grows in stages, and the figures of each stage."""

    def __init__(self, progress: Progress, server: Server) -> None:
        self._progress, self._server = progress, server
        self._vectors = ClusteredVectors()
        self._queries = self._vectors.draw(QUERIES, seed=1 << 40)
        self._exact = ExactNeighbours(self._queries, NEAREST)
        self._client = MilvusClient(uri=server.url, timeout=60)
        self._levels = {level: self._open(consistency=level) for level in ("Strong", "Bounded")}
        self._by_ef = {str(ef): self._open(consistency="Bounded", ef=ef) for ef in EF_VALUES}
        self._rows = 0
        self._bounded_p50: dict[int, float] = {}
        self._resources: list[dict[str, str]] = []  # one for each stage
        columns = (f"recall@{NEAREST}", "p50 ms", "p99 ms")
        self._search_table = make_table("Milvus", "vectors", "state", "consistency", *columns)
        self._ef_table = make_table(
            "Settled, at Bounded consistency, by LOOKALIKE_MILVUS_EF", "vectors", "ef", *columns
        )

    def _open(self, **options: object) -> MilvusVectorStore:
        settings = MilvusOptions(**options)  # type: ignore[arg-type]
        return MilvusVectorStore(self._server.url, settings, timeout=60)

    def grow_to(self, rows: int) -> SearchFigures:
        """Write vectors up to this number and measure; return the settled figures at Bounded."""
        rate, client_cpu = self._write(rows)
        self._progress.console.print(f"{rows:,} vectors were written, {rate:,.0f} per second.")
        self._add_searches("just written", self._search(self._levels))
        settled = self._settle()
        figures = self._search(self._levels)
        self._add_searches("settled", figures)
        for ef, values in self._search(self._by_ef).items():
            self._ef_table.add_row(f"{rows:,}", ef, *values.cells())
        self._resources.append(
            {
                "vectors": f"{rows:,}",
                "upserts/s": f"{rate:,.0f}",
                "CPU of the client, ms per 1000 upserts": f"{client_cpu:.0f}",
                "every row indexed after, s": f"{settled.indexed_after:.0f}",
                "settled after, s": f"{settled.settled_after:.0f}",
                "segments": f"{len(settled.segments)}",
                "rows of the largest segment": f"{settled.segments[0]:,}",
            }
            | self._read_resources()
        )
        self._progress.console.print(self._resources[-1])
        self._bounded_p50[rows] = figures["Bounded"].p50
        return figures["Bounded"]

    def close(self) -> None:
        for store in (*self._levels.values(), *self._by_ef.values()):
            store.close()
        self._client.close()

    def print_tables(self, console: Console) -> None:
        stages = [stage["vectors"] for stage in self._resources]
        resources = make_table("Resources of Milvus", "vectors", *stages)
        for name in list(self._resources[0])[1:]:
            resources.add_row(name, *(stage[name] for stage in self._resources))
        for table in (self._search_table, self._ef_table, resources):
            console.print(table)
        fewest, most = min(self._bounded_p50), max(self._bounded_p50)
        growth = self._bounded_p50[most] / self._bounded_p50[fewest]
        console.print(
            f"At Bounded consistency, p50 over {most:,} vectors is {growth:.2f} times that over"
            f" {fewest:,}.",
            highlight=False,
        )

    def _write(self, rows: int) -> tuple[float, float]:
        """Upsert the missing vectors; return vectors/s, and CPU ms of this process per 1000."""
        count = rows - self._rows
        task = self._progress.add_task("vectors: upserts", total=count)
        seconds = cpu = 0.0
        for first in range(self._rows, rows, BATCH):
            vectors = self._vectors.draw(min(BATCH, rows - first), seed=first)
            self._exact.add(first, vectors)
            records = [
                VectorRecord(
                    UUID(int=first + n), COLLECTION, whole_image(vector), {"shelf": n % 100}, 1
                )
                for n, vector in enumerate(vectors)
            ]
            start, cpu_start = time.perf_counter(), time.process_time()
            self._levels["Strong"].upsert(VERSION, records)
            seconds += time.perf_counter() - start
            cpu += time.process_time() - cpu_start
            self._progress.advance(task, len(vectors))
        self._progress.remove_task(task)
        self._rows = rows
        return count / seconds, cpu / count * 1e6

    def _add_searches(self, state: str, figures: dict[str, SearchFigures]) -> None:
        for level, values in figures.items():
            self._search_table.add_row(f"{self._rows:,}", state, level, *values.cells())
            recall, p50, p99 = values.cells()
            self._progress.console.print(
                f"{self._rows:,} vectors, {state}, {level}: recall {recall}, p50 {p50} ms,"
                f" p99 {p99} ms"
            )

    def _search(self, stores: dict[str, MilvusVectorStore]) -> dict[str, SearchFigures]:
        """Search the stores in turn with one client."""
        times: dict[str, list[float]] = {name: [] for name in stores}
        found = dict.fromkeys(stores, 0)
        task = self._progress.add_task("vectors: searches", total=QUERIES)
        for number in range(-WARM_UP, QUERIES):
            nearest = set(self._exact.numbers[number].tolist())
            for name, store in stores.items():
                start = time.perf_counter()
                hits = store.search(VERSION, COLLECTION, self._queries[number], NEAREST)
                if number >= 0:
                    times[name].append((time.perf_counter() - start) * 1000)
                    found[name] += len({hit.master_id.int for hit in hits} & nearest)
            self._progress.update(task, completed=max(0, number + 1))
        self._progress.remove_task(task)
        return {
            name: SearchFigures(
                found[name] / self._exact.numbers.size,
                *(float(np.percentile(times[name], percent)) for percent in (50, 99)),
            )
            for name in stores
        }

    def _settle(self) -> Settled:
        """Flush, then wait until every row is indexed and loaded and merging has ended.

        Raises RuntimeError if Milvus dies or does not settle within an hour.
        """
        (name,) = self._client.list_collections()
        self._client.flush(name, timeout=600)
        start = time.monotonic()
        indexed_after = changed = 0.0
        before = None
        task = self._progress.add_task("vectors: indexing", total=self._rows)
        while (now := time.monotonic() - start) < SETTLE_TIMEOUT:
            if not self._server.alive:
                raise RuntimeError(
                    "Milvus died. Read its log, or the kernel's log if memory ran out."
                )
            done, pending, segments = self._read_index_state(name)
            self._progress.update(task, completed=self._rows - pending)
            if done and not indexed_after:
                indexed_after = now
                self._progress.console.print(
                    f"{self._rows:,} rows were indexed after {now:.0f} s; waiting until merging"
                    " has ended."
                )
            if (state := (done, segments)) != before:
                changed, before = now, state
            if done and now - changed >= QUIET:
                self._progress.remove_task(task)
                return Settled(indexed_after, changed, sorted(segments.values(), reverse=True))
            time.sleep(1)
        raise RuntimeError(f"Milvus did not settle within {SETTLE_TIMEOUT:.0f} s.")

    def _read_index_state(self, name: str) -> tuple[bool, int, dict[int, int]]:
        """Return whether all rows are indexed and loaded, the pending rows, rows by segment."""
        pending: int = self._client.describe_index(name, "vector")["pending_index_rows"]
        stored = {each.segment_id for each in self._client.list_persistent_segments(name)}
        # The name of an index means that the index is loaded, not only the vectors.
        loaded = {
            each.segment_id: each.num_rows
            for each in self._client.list_loaded_segments(name)
            if each.index_name or each.num_rows < UNINDEXED_ROWS
        }
        done = pending == 0 and stored == loaded.keys() and sum(loaded.values()) == self._rows
        return done, pending, loaded

    def _read_resources(self) -> dict[str, str]:
        process = require_process(self._server)
        cpu, start = read_cpu_seconds(process), time.perf_counter()
        time.sleep(IDLE)
        idle = (read_cpu_seconds(process) - cpu) / (time.perf_counter() - start)
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident, peak = (
            int(status.split(f"{field}:")[1].split()[0]) / 1024 for field in ("VmRSS", "VmHWM")
        )
        data = self._server.directory / "data"
        return {
            "resident memory, MB": f"{resident:,.0f}",
            "peak resident memory so far, MB": f"{peak:,.0f}",
            "on disk, MB": f"{_disk_mb(data):,.0f}",
            "of which message log, MB": f"{_disk_mb(data / 'rocksmq'):,.0f}",
            "idle CPU, of one core": f"{idle:.0%}",
        }


def _disk_mb(directory: Path) -> float:
    total = 0
    for folder, _, files in os.walk(directory):
        for file in files:
            try:
                total += (Path(folder) / file).lstat().st_blocks * 512
            except FileNotFoundError:  # Milvus removes files meanwhile
                continue
    return total / 1e6
