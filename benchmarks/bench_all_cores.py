"""What a lone image gains from being embedded on all cores, and what several clients notice of it.

    make bench-all-cores

Two services run beside each other, of which one embeds every image on one core. They are measured
in turns with 1, 2, 4 and 8 clients that send pictures of 448 x 336 pixels. Prints one JSON object
last: the medians of the ratios of the rates, all cores to one core, and the additional memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile

from rich.console import Console
from rich.table import Table

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


def measure_round(
    services: list[ServiceProcess], clients: int, seed: int
) -> dict[str, dict[int, float]]:
    """Return the rates of searches and uploads by port, measured in the order of the services."""
    images = make_photographs(IMAGES[clients], *SIZE, seed=seed)
    samples = [encode_form([("sample", image)]) for image in images]
    uploads = [encode_form([("file", image)]) for image in images]
    return {
        "searches": {each.port: search_all(each.port, samples, clients) for each in services},
        "uploads": {each.port: upload_all(each.port, uploads, clients) for each in services},
    }


def main() -> None:
    make_parser(__doc__).parse_args()
    port = find_free_port()
    rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
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
                            rates.setdefault((kind, clients), []).append(pair)
            memory = all_cores.resident_mb() - one_core.resident_mb()
    table = Table(title=f"Medians of {RUNS} runs in turns")
    for column in ("", "clients", "one core each, per second", "all cores if alone", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    ratios = {}
    for (kind, clients), pairs in sorted(rates.items()):
        ratio = statistics.median(ours / theirs for theirs, ours in pairs)
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        table.add_row(kind, str(clients), *(f"{rate:.1f}" for rate in medians), f"{ratio:.3f}")
        ratios[f"{kind}_{clients}"] = round(ratio, 3)
    Console().print(table)
    print(json.dumps(ratios | {"additional_mb": round(memory)}))


if __name__ == "__main__":
    main()
