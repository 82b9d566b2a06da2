"""What decoding in separate processes costs: upload and search rates with and without them.

    make bench-decoding

Two services run beside each other, of which one decodes inside its own process, without limits.
They are measured in turns with 8 clients. Prints one JSON object last: the medians of the ratios,
with processes to without.
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
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_lookalike,
    run_process,
    time_threads,
    upload_all,
)

CLIENTS = 8
RUNS = 7
KINDS = {"uploads, 12 megapixels": (4000, 3000, 32), "uploads, small": (448, 336, 200)}
SEARCHES = 200


def search_all(port: int, bodies: list[bytes]) -> float:
    """Search with each body once; return searches per second."""

    def work(number: int) -> None:
        client = Client(port)
        for body in bodies[number::CLIENTS]:
            client.post("/search", body)

    return len(bodies) / time_threads(work, CLIENTS)


def main() -> None:
    make_parser(__doc__).parse_args()
    rates: dict[str, list[tuple[float, float]]] = {}
    port = find_free_port()
    with tempfile.TemporaryDirectory() as directory:
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        command = [sys.executable, "-m", "benchmarks.decode_inside"]
        with run_process(command, "/readyz", environment, port), run_lookalike() as service:
            for run in range(RUNS + 1):  # the first run is the warm-up
                order = (port, service.port) if run % 2 else (service.port, port)
                for name, (width, height, count) in KINDS.items():
                    images = make_photographs(count, width, height, seed=run)
                    bodies = [encode_form([("file", image)]) for image in images]
                    measured = {at: upload_all(at, bodies, CLIENTS) for at in order}
                    if run:
                        rates.setdefault(name, []).append((measured[port], measured[service.port]))
                images = make_photographs(SEARCHES, 448, 336, seed=1000 + run)
                bodies = [encode_form([("sample", image)]) for image in images]
                measured = {at: search_all(at, bodies) for at in order}
                if run:
                    rates.setdefault("searches", []).append(
                        (measured[port], measured[service.port])
                    )
    table = Table(title=f"{CLIENTS} clients, medians of {RUNS} runs in turns")
    for column in ("", "decoded inside, per second", "in processes", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    ratios = {}
    for name, pairs in rates.items():
        ratios[name] = statistics.median(processes / inside for inside, processes in pairs)
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        table.add_row(name, *(f"{rate:.1f}" for rate in medians), f"{ratios[name]:.3f}")
    Console().print(table)
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
