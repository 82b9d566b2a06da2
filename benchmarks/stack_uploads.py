"""Uploads and searches on the servers, compared with the embedded default and between replicas."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.reporting import make_table, show_progress
from benchmarks.service import (
    Client,
    encode_form,
    make_photographs,
    run_lookalike,
    upload_all,
)
from benchmarks.stack import PAUSE, read_cpu_seconds, require_process, run_stack
from storage.cores import available_cores

CLIENTS, RUNS = 8, 5
UPLOADS = 300  # images per run, 448 x 336
REPLICA_UPLOADS = 80
SEARCHES, WARM_UP = 300, 20
STORES = ("embedded", "servers")


class CpuAccounting:
    """Sums the CPU time of each process over the measured uploads, per kind of stores."""

    def __init__(self, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self.spent: dict[str, dict[str, float]] = {stores: {} for stores in STORES}

    def read(self) -> dict[str, float]:
        """Return the CPU seconds of each process so far; "clients" is this process."""
        used = {name: read_cpu_seconds(each) for name, each in self._processes.items()}
        return used | {"clients": time.process_time()}

    def add(self, stores: str, before: dict[str, float]) -> None:
        """Add what has been used since ``before``, a value of ``read``."""
        spent = self.spent[stores]
        for name, seconds in self.read().items():
            spent[name] = spent.get(name, 0.0) + seconds - before[name]


def compare_uploads(console: Console, largest: int) -> dict[str, float | None]:
    """Upload to the embedded default and to the stack in turn, then search the stack.

    The searches alternate between two API processes, at Strong and at Bounded consistency.
    """
    rates: dict[str, list[float]] = {stores: [] for stores in STORES}
    with show_progress() as progress, run_stack() as servers:
        servers.upgrade_schema()
        with (
            run_lookalike() as embedded,
            servers.run_api() as strong,
            servers.run_worker() as worker,
        ):
            processes = {server.name: require_process(server) for server in servers.servers}
            processes |= {
                "embedded service": embedded.process,
                "API process": strong.process,
                "worker": worker,
            }
            cpu = CpuAccounting(processes)
            ports = {"embedded": embedded.port, "servers": strong.port}
            total = (RUNS + 1) * UPLOADS * len(STORES)
            task = progress.add_task("ingest: uploads", total=total)
            for run in range(RUNS + 1):  # the first run is the warm-up
                images = make_photographs(UPLOADS, 448, 336, seed=run)
                bodies = [encode_form([("file", image)]) for image in images]
                for stores in STORES if run % 2 else STORES[::-1]:
                    before = cpu.read()
                    rate = upload_all(ports[stores], bodies, CLIENTS)
                    progress.advance(task, UPLOADS)
                    if run:
                        rates[stores].append(rate)
                        cpu.add(stores, before)
            kilobytes = sum(map(len, bodies)) / len(bodies) / 1000
            with servers.run_api(milvus_consistency="Bounded") as bounded:
                times = time_searches(progress, {"Strong": strong.port, "Bounded": bounded.port})
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    title = (
        f"Uploads with {CLIENTS} clients, {RUNS} alternating runs of {UPLOADS} images of"
        f" {kilobytes:.0f} kB, images/s"
    )
    console.print(make_rate_table(title, rates, f"{ratio:.3f}"))
    console.print(make_cpu_table(cpu.spent, rates))
    title = (
        f"POST /search over {(RUNS + 1) * UPLOADS} masters, one client, {SEARCHES} searches of"
        " each in turn, ms"
    )
    table = make_table(title, "consistency", "p50", "p99")
    for level, values in times.items():
        table.add_row(level, *(f"{np.percentile(values, percent):.1f}" for percent in (50, 99)))
    console.print(table)
    return {"ingest_vs_embedded": round(ratio, 3)}


def make_rate_table(title: str, rates: dict[str, Sequence[float]], ratio: str) -> Table:
    """Make a table of rates; ``ratio`` is shown in the last row."""
    table = make_table(title, "", "median", "min", "max", "ratio")
    for name, values in rates.items():
        summary = (statistics.median(values), min(values), max(values))
        last = name == list(rates)[-1]
        table.add_row(name, *(f"{value:.1f}" for value in summary), ratio if last else "")
    return table


def make_cpu_table(spent: dict[str, dict[str, float]], rates: dict[str, list[float]]) -> Table:
    """Make a table of the CPU time per upload; ``spent`` is as in CpuAccounting."""
    table = make_table("CPU time per upload in ms, also of idle processes", "process", *STORES)
    for name in spent["embedded"]:
        uploads = RUNS * UPLOADS
        table.add_row(name, *(f"{spent[each][name] / uploads * 1000:.1f}" for each in STORES))
    cores = available_cores()
    seconds = {stores: sum(UPLOADS / rate for rate in rates[stores]) for stores in STORES}
    busy = (f"{sum(spent[each].values()) / seconds[each] / cores:.0%}" for each in STORES)
    table.add_row(f"utilisation of {cores} cores", *busy, end_section=True)
    return table


def time_searches(progress: Progress, ports: dict[str, int]) -> dict[str, list[float]]:
    """Search the processes in turn; return the milliseconds of each search by consistency level."""
    images = make_photographs(WARM_UP + SEARCHES, 448, 336, seed=1000)
    bodies = [encode_form([("sample", image)], {"k": "10"}) for image in images]
    clients = {level: Client(port) for level, port in ports.items()}
    times: dict[str, list[float]] = {level: [] for level in ports}
    for number, body in enumerate(progress.track(bodies, description="ingest: searches")):
        for level, client in clients.items():
            start = time.perf_counter()
            client.post("/search", body)
            if number >= WARM_UP:
                times[level].append((time.perf_counter() - start) * 1000)
    return times


def compare_replicas(console: Console, largest: int) -> dict[str, float | None]:
    """Upload through one and through two API replicas in turn.

    Their network sleeps instead of computing, which leaves the cores to what is measured.
    """
    rates: dict[str, list[float]] = {"one replica": [], "two replicas": []}
    with show_progress() as progress, run_stack() as servers:
        servers.upgrade_schema()
        replica = ("-m", "benchmarks.stack")
        with (
            servers.run_api(*replica, slots="1") as one,
            servers.run_api(*replica, slots="1") as other,
            servers.run_worker(),
        ):
            total = (RUNS + 1) * REPLICA_UPLOADS * 2
            task = progress.add_task("replicas: uploads", total=total)
            for run in range(RUNS + 1):  # the first run is the warm-up
                images = make_photographs(REPLICA_UPLOADS * 2, 448, 336, seed=2000 + run)
                bodies = [encode_form([("file", image)]) for image in images]
                alone = upload_all(one.port, bodies[:REPLICA_UPLOADS], CLIENTS)
                progress.advance(task, REPLICA_UPLOADS)
                both = upload_all([one.port, other.port], bodies[REPLICA_UPLOADS:], CLIENTS)
                progress.advance(task, REPLICA_UPLOADS)
                if run:
                    rates["one replica"].append(alone)
                    rates["two replicas"].append(both)
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    title = (
        f"API replicas whose network sleeps {PAUSE * 1000:.0f} ms, {CLIENTS} clients, {RUNS}"
        " alternating runs, images/s"
    )
    console.print(make_rate_table(title, rates, f"{ratio:.2f}"))
    return {"two_replicas": round(ratio, 2)}
