"""Uploads over HTTP with 8 clients, compared with a naive service and with an upper bound.

    make bench-ingest

Images of 12 megapixels are uploaded to Lookalike and to the naive service; ratio_vs_naive is the
ratio of the rates. For small images the bound is decoding and embedding alone, on one thread per
core; fraction_of_bound is the share of it that uploads over HTTP reach.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.direct import measure_direct_rate
from benchmarks.service import (
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
RUNS = 5
LARGE, SMALL = 24, 200  # images per run
NAMES = (
    "naive, 12 megapixels",
    "lookalike, 12 megapixels",
    "decode and embed alone, small",
    "lookalike, small",
)


def median_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    return statistics.median(b / a for a, b in zip(to, of, strict=True))


def main() -> None:
    make_parser(__doc__).parse_args()
    embedder = load_embedder(slots=available_cores())
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    port = find_free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.naive", directory, str(port)]
        with run_process(command, "/readyz", {}, port), run_lookalike() as service:
            for run in range(RUNS + 1):  # the first run is the warm-up
                large = make_photographs(LARGE, 4000, 3000, seed=run)
                small = make_photographs(SMALL, 448, 336, seed=1000 + run)
                large_bodies = [encode_form([("file", image)]) for image in large]
                small_bodies = [encode_form([("file", image)]) for image in small]
                measured = (
                    upload_all(port, large_bodies, CLIENTS),
                    upload_all(service.port, large_bodies, CLIENTS),
                    measure_direct_rate(embedder, small),
                    upload_all(service.port, small_bodies, CLIENTS),
                )
                if run:
                    for name, rate in zip(NAMES, measured, strict=True):
                        rates[name].append(rate)
    megabytes = sum(map(len, large)) / len(large) / 1e6
    kilobytes = sum(map(len, small)) / len(small) / 1e3
    table = Table(
        title=f"Uploads, {CLIENTS} clients, {RUNS} alternating runs. Large images have"
        f" {megabytes:.1f} MB, small ones {kilobytes:.0f} kB."
    )
    for column in ("", "images/s (median)", "min", "max"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in rates.items():
        summary = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{value:.1f}" for value in summary))
    Console().print(table)
    naive, ours, bound, ours_small = rates.values()
    result = {
        "ratio_vs_naive": round(median_ratio(ours, naive), 2),
        "fraction_of_bound": round(median_ratio(ours_small, bound), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
