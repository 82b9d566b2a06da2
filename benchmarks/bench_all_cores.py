"""What a lone image gains from being embedded on all cores, and what several clients notice of it.

    make bench-all-cores

Two services run beside each other, of which one embeds every image on one core. They are measured
in turns with 1, 2, 4 and 8 clients that send pictures of 448 x 336 pixels. Prints one JSON object
last: the medians of the ratios of the rates, and of the processor time of an image, which tells
more while other work runs beside it; all cores to one core. Also the additional memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from benchmarks.costs import measure_costs
from benchmarks.reporting import make_table
from benchmarks.service import (
    Client,
    ServiceProcess,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_lookalike,
    run_process,
    time_threads,
    upload_all,
)

CLIENTS = (1, 2, 4, 8)
IMAGES = {1: 30, 2: 40, 4: 50, 8: 60}  # by the number of clients
RUNS = 5
SIZE = (448, 336)


def search_all(port: int, bodies: list[bytes], clients: int) -> float:
    """Search with each body once; return searches per second."""

    def work(number: int) -> None:
        client = Client(port)
        for body in bodies[number::clients]:
            client.post("/search", body)

    return len(bodies) / time_threads(work, clients)


@dataclass(frozen=True)
class Measured:
    """Images per second, and the processor time of one in the service, in milliseconds."""

    rate: float
    processor: float


def measure(
    service: ServiceProcess, bodies: list[bytes], run: Callable[[list[bytes]], float]
) -> Measured:
    with measure_costs(service, len(bodies)) as costs:
        rate = run(bodies)
    spent = sum(sum(times) for name, times in costs.processor.items() if name != "the clients")
    return Measured(rate, 1000 * spent / len(bodies))


def measure_round(
    services: list[ServiceProcess], clients: int, seed: int
) -> dict[str, dict[int, Measured]]:
    """Measure searches and uploads by port, in the order of the services."""
    images = make_photographs(IMAGES[clients], *SIZE, seed=seed)
    samples = [encode_form([("sample", image)]) for image in images]
    uploads = [encode_form([("file", image)]) for image in images]
    measured: dict[str, dict[int, Measured]] = {"searches": {}, "uploads": {}}
    for each in services:
        search = partial(search_all, each.port, clients=clients)
        measured["searches"][each.port] = measure(each, samples, search)
    for each in services:
        upload = partial(upload_all, each.port, clients=clients)
        measured["uploads"][each.port] = measure(each, uploads, upload)
    return measured


def main() -> None:
    make_parser(__doc__).parse_args()
    port = find_free_port()
    pairs: dict[tuple[str, int], list[tuple[Measured, Measured]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        command = [sys.executable, "-m", "benchmarks.one_core_each"]
        with (
            run_process(command, "/readyz", environment, port) as one_core,
            run_lookalike() as all_cores,
        ):
            for run in range(RUNS + 1):  # the first run is the warm-up
                order = [one_core, all_cores] if run % 2 else [all_cores, one_core]
                for clients in CLIENTS:
                    measured = measure_round(order, clients, seed=100 * run + clients)
                    for kind, by_port in measured.items():
                        pair = by_port[one_core.port], by_port[all_cores.port]
                        if run:
                            pairs.setdefault((kind, clients), []).append(pair)
            memory = all_cores.resident_mb() - one_core.resident_mb()
    print(json.dumps(show(pairs) | {"additional_mb": round(memory)}))


def show(pairs: dict[tuple[str, int], list[tuple[Measured, Measured]]]) -> dict[str, float]:
    """Print a table, and return the ratios."""
    table = make_table(
        f"One core each, and all cores if alone; medians of {RUNS} runs in turns",
        *("", "clients", "images/s", "all cores", "ratio", "CPU ms", "all cores", "ratio"),
    )
    ratios = {}
    for (kind, clients), runs in sorted(pairs.items()):
        row = [kind, str(clients)]
        for name in ("rate", "processor"):
            before, after = ([getattr(pair[side], name) for pair in runs] for side in (0, 1))
            ratio = statistics.median(b / a for a, b in zip(before, after, strict=True))
            row += [f"{statistics.median(side):.1f}" for side in (before, after)]
            row.append(f"{ratio:.3f}")
            ratios[f"{kind}_{clients}_{name}"] = round(ratio, 3)
        table.add_row(*row)
    Console().print(table)
    return ratios


if __name__ == "__main__":
    main()
