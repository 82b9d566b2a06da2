"""Uploads over HTTP with 8 clients and by `lookalike import`, compared with an upper bound.

    make bench-ingest
    make bench-ingest OPTIONS='--costs --naive'

The bound is decoding and embedding the same images alone, on one thread per core. The JSON has the
medians of ratios within a run: uploads with 8 clients over the bound (fraction_of_bound, and
fraction_of_bound_12mp for images of 12 megapixels), and `lookalike import` over 8 clients
(import_over_clients, import_over_clients_12mp).

--costs prints where the time of an upload goes: how long each stage takes, and the processor time
of each process. --naive also uploads the images of 12 megapixels to a naive service
(ratio_vs_naive).
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console

from benchmarks.costs import Costs, measure_costs
from benchmarks.direct import measure_direct_rate
from benchmarks.reporting import make_table
from benchmarks.service import (
    ROOT,
    ServiceProcess,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_lookalike,
    run_process,
    upload_all,
)
from models.embedder import load_embedder
from storage.cores import available_cores

CLIENTS = 8
SIZES = {"12 megapixels": (24, 4000, 3000), "30 kB": (300, 448, 336)}  # images per run, pixels
BOUND, UPLOADS, IMPORT, NAIVE = "decode and embed alone", "8 clients", "lookalike import", "naive"
_SECONDS = re.compile(r"images? in ([\d.]+) s")


def import_files(service: ServiceProcess, images: Sequence[bytes]) -> float:
    """Import the images with the command; return images/s without the start of its process."""
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        for number, image in enumerate(images):
            (Path(directory) / f"{number:05}.jpg").write_bytes(image)
        command = [sys.executable, "-m", "app.cli", "import", directory]
        command += ["--url", f"http://127.0.0.1:{service.port}", "--collection", "imported"]
        command += ["--report", f"{directory}/errors.jsonl"]
        environment = os.environ | {"COLUMNS": "200"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        )
    found = _SECONDS.search(done.stdout)
    if found is None or f"{len(images)} new." not in done.stdout:
        raise RuntimeError(f"The import did not store all images: {done.stdout}")
    return len(images) / float(found[1])


def median_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def measure(
    service: ServiceProcess, naive_port: int | None, runs: int
) -> tuple[dict[tuple[str, str], list[float]], dict[str, Costs]]:
    """Return images/s of each run, by size and way, and what the uploads of the last run cost."""
    embedder = load_embedder(slots=available_cores())
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[str, Costs] = {}
    for run in range(runs + 1):  # the first run is the warm-up
        for size, (count, width, height) in SIZES.items():
            images = make_photographs(count, width, height, seed=run * 1000)
            bodies = [encode_form([("file", image)]) for image in images]
            with measure_costs(service, count) as costs[size]:
                uploads = upload_all(service.port, bodies, CLIENTS)
            measured = {
                BOUND: measure_direct_rate(embedder, images),
                UPLOADS: uploads,
                IMPORT: import_files(service, images),
            }
            if naive_port is not None and width == 4000:
                measured[NAIVE] = upload_all(naive_port, bodies, CLIENTS)
            for way, rate in measured.items():
                rates.setdefault((size, way), []).append(rate)
    return {key: values[1:] for key, values in rates.items()}, costs


@contextmanager
def run_naive() -> Iterator[int]:
    """Run the naive service and yield its port."""
    port = find_free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.naive", directory, str(port)]
        with run_process(command, "/readyz", {}, port):
            yield port


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs (default: 5)")
    parser.add_argument("--costs", action="store_true", help="print where the time goes")
    parser.add_argument("--naive", action="store_true", help="compare with a naive service")
    options = parser.parse_args()
    with run_naive() if options.naive else nullcontext() as naive_port, run_lookalike() as service:
        rates, costs = measure(service, naive_port, options.runs)
    table = make_table(
        f"Images per second, {options.runs} alternating runs", "", "median", "min", "max"
    )
    for (size, way), values in rates.items():
        summary = (statistics.median(values), min(values), max(values))
        table.add_row(f"{size}, {way}", *(f"{value:.1f}" for value in summary))
    console = Console()
    console.print(table)
    if options.costs:
        for size, cost in costs.items():
            console.print(cost.table(f"An upload of {size}, {CLIENTS} clients"))
    large, small = SIZES
    compared = {
        "fraction_of_bound": (small, UPLOADS, BOUND),
        "fraction_of_bound_12mp": (large, UPLOADS, BOUND),
        "import_over_clients": (small, IMPORT, UPLOADS),
        "import_over_clients_12mp": (large, IMPORT, UPLOADS),
    }
    if options.naive:
        compared["ratio_vs_naive"] = large, UPLOADS, NAIVE
    result = {
        name: round(median_ratio(rates[size, of], rates[size, to]), 3)
        for name, (size, of, to) in compared.items()
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
