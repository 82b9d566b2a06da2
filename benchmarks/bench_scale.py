"""Throughput and latency over the number of clients, and search over the number of masters.

    make bench-scale
    make bench-scale OPTIONS='--plots docs'

Embedded stores, images of 30 kB. Over the clients: uploads and searches in turn, with 100,000
masters stored. Over the masters: one client searches with images and with masters that are stored;
the times are those inside the service (took_ms), and stage_ms is the mean time of the vector search
alone. --plots draws both into a directory, as scale-clients.svg and scale-masters.svg;
--draw FILE draws the JSON of an earlier run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.costs import measure_costs
from benchmarks.filling import add_masters, make_installation
from benchmarks.reporting import make_table, show_progress
from benchmarks.service import (
    Client,
    ServiceProcess,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_process,
    time_threads,
)
from models.embedder import load_embedder

_PICTURES = 100  # different ones; each upload has further bytes of its own
_WARM_UP = 10  # searches


@contextmanager
def run_on(directory: Path) -> Iterator[ServiceProcess]:
    """Run the service on an installation."""
    port = find_free_port()
    environment = {"LOOKALIKE_DATA_DIR": str(directory), "LOOKALIKE_PORT": str(port)}
    environment |= {"LOOKALIKE_SCRUB_INTERVAL": "0", "LOOKALIKE_CATALOGUE_INTERVAL": "0"}
    with run_process([sys.executable, "api.py"], "/readyz", environment, port) as service:
        yield service


def measure_load(
    port: int, clients: int, seconds: float, send: Callable[[Client, int], object]
) -> dict[str, float]:
    """Let clients send requests for some time; return requests/s and latencies in ms."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        client, sent = Client(port), number
        while (start := time.perf_counter()) < end:
            send(client, sent)
            latencies[number].append(1000 * (time.perf_counter() - start))
            sent += clients

    elapsed = time_threads(work, clients)
    every = [latency for each in latencies for latency in each]
    p50, p95 = np.percentile(every, [50, 95])
    return {
        "rate": round(len(every) / elapsed, 1),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
    }


def measure_clients(
    service: ServiceProcess, counts: Sequence[int], seconds: float, progress: Progress
) -> list[dict[str, Any]]:
    """Return throughput and latency of uploads and of searches for each number of clients."""
    images = make_photographs(_PICTURES, 448, 336, seed=3)
    searches = [encode_form([("sample", image)], {"k": "10"}) for image in images]
    uploaded = 0

    def upload(client: Client, number: int) -> None:
        own = (uploaded + number).to_bytes(8)  # behind the end of the image
        client.post("/masters", encode_form([("file", images[number % _PICTURES] + own)]))

    def search(client: Client, number: int) -> None:
        client.post("/search", searches[number % _PICTURES])

    measure_load(service.port, 4, min(seconds, 3), search)  # the warm-up
    measured = []
    for clients in progress.track(counts, description="clients"):
        uploads = measure_load(service.port, clients, seconds, upload)
        uploaded += 1_000_000
        searched = measure_load(service.port, clients, seconds, search)
        measured.append({"clients": clients, "uploads": uploads, "searches": searched})
    return measured


def measure_search(
    service: ServiceProcess, masters: int, ids: Sequence[UUID], rounds: int
) -> dict[str, Any]:
    """Return the median times of searches inside the service, in ms, and its memory in MB."""
    images = make_photographs(min(rounds, _PICTURES), 448, 336, seed=5)
    by_image = [encode_form([("sample", image)], {"k": "10"}) for image in images]
    chosen = np.random.default_rng(7).integers(0, len(ids), rounds)
    by_master = [encode_form([], {"master_id": str(ids[n]), "k": "10"}) for n in chosen]
    client = Client(service.port)

    def took(body: bytes) -> float:
        return float(json.loads(client.post("/search", body))["took_ms"])

    for number in range(_WARM_UP):
        took(by_image[number % len(by_image)])
        took(by_master[number % len(by_master)])
    times: tuple[list[float], list[float]] = [], []
    with measure_costs(service, 2 * rounds) as costs:
        for number in range(rounds):
            times[0].append(took(by_image[number % len(by_image)]))
            times[1].append(took(by_master[number]))
    seconds, count = costs.stages["vector_search"]
    return {
        "masters": masters,
        "image_p50_ms": round(statistics.median(times[0]), 2),
        "master_p50_ms": round(statistics.median(times[1]), 2),
        "stage_ms": round(1000 * seconds / count, 2),
        "mb": round(service.resident_mb()),
        "ready_s": round(service.ready_after, 2),
    }


def measure(options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Fill an installation step by step, and measure at each."""
    version = load_embedder(slots=1).model_version
    result: dict[str, Any] = {"clients": [], "masters": []}
    ids: list[UUID] = []
    sizes = sorted({*options.masters, options.stored})
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-", dir=options.directory) as made:
        directory = Path(made)
        collection = make_installation(directory, version)
        for masters in sizes:
            numbers = range(len(ids), masters)
            ids += add_masters(directory, version, collection, numbers, progress)
            if masters in options.masters:
                with run_on(directory) as service:
                    result["masters"].append(measure_search(service, masters, ids, options.rounds))
        with tempfile.TemporaryDirectory(prefix="lookalike-bench-", dir=options.directory) as other:
            collection = make_installation(Path(other), version)
            add_masters(Path(other), version, collection, range(options.stored), progress)
            with run_on(Path(other)) as service:
                result["clients"] = measure_clients(
                    service, options.clients, options.seconds, progress
                )
    return result


def show(result: dict[str, Any], console: Console) -> None:
    table = make_table(
        "Over the clients",
        *("clients", "uploads/s", "p50 ms", "p95 ms", "searches/s", "p50 ms", "p95 ms"),
    )
    for point in result["clients"]:
        values = [*point["uploads"].values(), *point["searches"].values()]
        table.add_row(str(point["clients"]), *map(str, values))
    console.print(table)
    table = make_table(
        "Over the masters, one client; times inside the service",
        *("masters", "by image p50 ms", "by master p50 ms", "vectors ms", "MB", "ready s"),
    )
    for point in result["masters"]:
        masters, *values = point.values()
        table.add_row(f"{masters:,}", *map(str, values))
    console.print(table)


def main() -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = make_parser(__doc__)
    parser.add_argument("--clients", type=numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument(
        "--masters", type=numbers, default=[10_000, 30_000, 100_000, 300_000, 1_000_000]
    )
    parser.add_argument("--stored", type=int, default=100_000, help="masters beside the clients")
    parser.add_argument("--seconds", type=float, default=10, help="for each point over the clients")
    parser.add_argument("--rounds", type=int, default=200, help="searches of each kind at a point")
    parser.add_argument("--directory", help="where to put the installation, 5 GB for a million")
    parser.add_argument("--plots", type=Path, help="directory for the plots")
    parser.add_argument("--draw", type=Path, help="draw this JSON, and measure nothing")
    options = parser.parse_args()
    if options.draw:
        result = json.loads(options.draw.read_text().splitlines()[-1])
    else:
        with show_progress() as progress:
            result = measure(options, progress)
        show(result, Console())
    if options.plots:
        from benchmarks.plots import draw_clients, draw_masters

        draw_clients(result["clients"], options.plots / "scale-clients.svg")
        draw_masters(result["masters"], options.plots / "scale-masters.svg")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
