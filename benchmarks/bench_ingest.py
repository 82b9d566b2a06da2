"""Ingest through HTTP, 8 clients: 12-megapixel photographs beside the obvious way, small ones beside decode + embed alone.

make bench-ingest
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.service import (
    form,
    free_port,
    in_threads,
    lookalike,
    photographs,
    running,
    upload_all,
)
from models.embedder import Embedder, load_embedder
from models.imaging import decode_image
from models.transforms import INPUT_SIDE, prepare_input
from storage.cores import available_cores

CLIENTS = 8
RUNS = 5
LARGE, SMALL = 24, 200  # images a run


def decode_and_embed_alone(embedder: Embedder, images: Sequence[bytes]) -> float:
    """Images per second with one thread per core and nothing else: the bound."""

    def work(number: int) -> None:
        for content in images[number :: available_cores()]:
            embedder.embed(
                prepare_input(decode_image(io.BytesIO(content), min_side=INPUT_SIDE).image)[None]
            )

    return len(images) / in_threads(work, available_cores())


def main() -> None:
    console = Console(stderr=False)
    embedder = load_embedder(slots=available_cores())
    rates: dict[str, list[float]] = {
        "obvious, 12 MP": [],
        "lookalike, 12 MP": [],
        "decode + embed alone, small": [],
        "lookalike, small": [],
    }
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as directory,
        running(
            [sys.executable, "-m", "benchmarks.naive", directory, str(port)], "/readyz", {}, port
        ),
        lookalike() as service,
    ):
        for run in range(RUNS + 1):  # the first one warms up
            large = photographs(LARGE, 4000, 3000, seed=run)
            small = photographs(SMALL, 448, 336, seed=1000 + run)
            large_bodies = [form([("file", image)]) for image in large]
            small_bodies = [form([("file", image)]) for image in small]
            measured = (
                upload_all(port, large_bodies, CLIENTS),
                upload_all(service.port, large_bodies, CLIENTS),
                decode_and_embed_alone(embedder, small),
                upload_all(service.port, small_bodies, CLIENTS),
            )
            if run:
                for name, rate in zip(rates, measured, strict=True):
                    rates[name].append(rate)
        sizes = (sum(map(len, large)) / len(large) / 1e6, sum(map(len, small)) / len(small) / 1e3)
    table = Table(
        title=f"Ingest, {CLIENTS} clients, {RUNS} alternating runs; 12 MP: {sizes[0]:.1f} MB, small: {sizes[1]:.0f} kB"
    )
    for column in ("", "images/s (median)", "min", "max"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in rates.items():
        table.add_row(
            name, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}"
        )
    console.print(table)
    naive, ours, bound, small_ours = rates.values()
    result = {
        "ratio_vs_naive": round(
            statistics.median(b / a for a, b in zip(naive, ours, strict=True)), 2
        ),
        "fraction_of_bound": round(
            statistics.median(b / a for a, b in zip(bound, small_ours, strict=True)), 3
        ),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
