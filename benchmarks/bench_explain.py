"""What views and explanations cost, compared with a plain search.

    make bench-explain

One client sends photographs of 448 x 336 pixels, each kind of request in turn. Prints the median
and the shortest time of each in milliseconds, and how many times as long as a search the median is.
Then the time of the networks alone, for both methods of explaining.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.service import (
    Client,
    encode_form,
    make_parser,
    make_photographs,
    run_lookalike,
)
from models.attribution import attribute_similarity
from models.embedder import Embedder
from models.engines import OpenVinoEmbedder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.cores import available_cores

ROUNDS = 30
SIZE = (448, 336)


def measure(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each kind of work, done in turn after one round of warming up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def measure_service() -> dict[str, list[float]]:
    """Return the times of requests."""
    sample, *images = make_photographs(20, *SIZE)
    with run_lookalike() as service:
        client = Client(service.port)
        ids = [
            json.loads(client.post("/masters", encode_form([("file", image)])))["results"][0][
                "master"
            ]["id"]
            for image in images
        ]

        def ask(path: str, **fields: str) -> Callable[[], object]:
            body = encode_form([("sample", sample)], fields)
            return lambda: client.post(path, body)

        work = {
            "search": ask("/search"),
            "search with mirror": ask("/search", mirror="true"),
            "search with turns": ask("/search", turns="true"),
            "search with both": ask("/search", turns="true", mirror="true"),
            "explain": ask("/explain", master_id=ids[0]),
            "explain, picture of both": ask("/explain", master_id=ids[0], overlay="both"),
        }
        return measure(work, ROUNDS)


def measure_networks() -> dict[str, list[float]]:
    """Return the times of the two methods without decoding and HTTP."""

    draw = np.random.default_rng(0)
    embedders: list[Embedder] = []
    for covers in (False, True):
        embedder = OpenVinoEmbedder(WeightsFile.load(DEFAULT_WEIGHTS), slots=available_cores())
        embedder.prepare_all_cores()
        if covers:
            embedder.places = None
        embedders.append(embedder)
    one, other = draw.integers(0, 256, (2, *embedders[0].preprocessing.shape), dtype=np.uint8)
    work = {
        f"network alone, {method}": lambda embedder=embedder: attribute_similarity(
            embedder, one, other, all_cores=True
        )
        for method, embedder in zip(("activation", "occlusion"), embedders, strict=True)
    }
    with threadpool_limits(1, "blas"):  # as in the service
        return measure(work, ROUNDS // 3)


def main() -> None:
    make_parser(__doc__).parse_args()
    times = measure_service() | measure_networks()
    search = statistics.median(times["search"])
    table = Table("work", "median ms", "shortest ms", "times a search")
    for name, some in times.items():
        median = statistics.median(some)
        table.add_row(name, f"{median:.0f}", f"{min(some):.0f}", f"{median / search:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
