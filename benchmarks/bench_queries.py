"""What each addition to a search costs, over 100,000 masters, embedded and on servers.

    make bench-queries
    make bench-queries OPTIONS='--only servers --rounds 10'

One client sends photographs of 448 x 336 pixels. Each round makes every request once, in random
order and each after a plain search that is not timed. "times plain" is the median of the ratios to
the plain search of the same round. The masters have vectors
in two spaces; the encoder of `words` is as large as CLIP's ViT-B/32, with random weights. The
servers are MariaDB, SeaweedFS and Milvus, at Strong consistency with a time tick of 20 ms.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.reporting import make_table, show_progress
from benchmarks.service import (
    Client,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_process,
)
from benchmarks.stack import run_stack
from benchmarks.synthetic_vectors import ClusteredVectors
from benchmarks.two_spaces import fill_spaces, wait_until_indexed
from benchmarks.vit_b32 import make_vit_b32
from storage.factory import open_stores
from storage.store_urls import StoreUrls

MASTERS, BATCH = 100_000, 20  # BATCH: searches of a batch
WARM_UP = 3
TEXT = "a red bicycle"
SAMPLE, OTHER = {"upload": "0"}, {"upload": "1"}
TEXT_IN = {space: {"text": TEXT, "space": space} for space in ("look", "words")}
PLAIN, NEXT_PAGE = "plain: an image", "cursor: the second page"
IMAGE_QUERIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "mirror": {"mirror": True},
    "turns": {"turns": True},
    "mirror and turns": {"mirror": True, "turns": True},
    "filter, one in four": {"filter": {"colour": "red"}},
    "group_by, 10 000 values": {"group_by": "product"},
    "group_by, 4 values": {"group_by": "colour"},
    "collapse_duplicates": {"collapse_duplicates": 0.05},
    "sort": {"sort": "price"},
    "facets of the 10 nearest": {"facets": ["colour"]},
    "facets of 10 000": {"facets": ["colour"], "max_distance": 2},
    "include: vector": {"include": ["vector"]},
    "two images": {"examples": [SAMPLE, OTHER]},
    "image and text in look": {
        "examples": [SAMPLE | {"space": "look"}, TEXT_IN["look"]],
    },
    "image and text, two spaces": {"examples": [SAMPLE | {"space": "look"}, TEXT_IN["words"]]},
    "k = 100": {"k": 100},
}
Request = tuple[str, bytes]  # path and body


@dataclass(frozen=True)
class Inputs:
    """What the requests of a round send."""

    images: Sequence[bytes]  # as many as a batch has searches
    vector: list[float]
    master_id: str  # of a master with bytes


def encode_query(query: dict[str, Any], images: Sequence[bytes]) -> bytes:
    """Encode a query in JSON beside the images, whose file parts are numbered from 0."""
    files = [(str(number), image) for number, image in enumerate(images)]
    return encode_form(files, {"query": json.dumps(query)})


def list_requests(client: Client, inputs: Inputs) -> Iterator[tuple[str, Request]]:
    """Yield the requests of a round by name."""
    images = inputs.images
    for name, addition in IMAGE_QUERIES.items():
        query: dict[str, Any] = {"examples": [SAMPLE]} | addition
        uploads = sum("upload" in example for example in query["examples"])
        yield name, ("/search", encode_query(query, images[:uploads]))
    plain = {"examples": [SAMPLE]}
    first = json.loads(client.post("/search", encode_query(plain, images[:1])))
    query = plain | {"cursor": first["next_cursor"]}
    yield NEXT_PAGE, ("/search", encode_query(query, images[:1]))
    for name, example in (
        ("a vector", {"vector": inputs.vector}),
        ("a master", {"master_id": inputs.master_id}),
        ("a text in words", TEXT_IN["words"]),
    ):
        yield name, ("/search", encode_query({"examples": [example]}, []))
    queries = [{"examples": [{"upload": str(number)}]} for number in range(BATCH)]
    yield f"batch of {BATCH} images", ("/search/batch", encode_query({"queries": queries}, images))
    explain = encode_form([("sample", images[0])], {"master_id": inputs.master_id})
    yield "POST /explain", ("/explain", explain)


def time_round(client: Client, inputs: Inputs) -> dict[str, float]:
    """Return the milliseconds of each request of a round."""
    times, requests = {}, list(list_requests(client, inputs))
    plain = dict(requests)[PLAIN]
    for name, (path, body) in random.sample(requests, len(requests)):
        client.post(*plain)
        start = time.perf_counter()
        answer = client.post(path, body)
        times[name] = (time.perf_counter() - start) * 1000
        for result in json.loads(answer).get("results", ()):
            if result["status"] != 200:
                raise RuntimeError(f"A search of the batch failed: {result['error']['detail']}")
    return {name: times[name] for name, _ in requests}


def wait_for_words(client: Client) -> None:
    """Wait until the service has loaded the encoder of `words`, which it does in the background.

    Raises RuntimeError after a minute.
    """
    body, until = encode_query({"examples": [TEXT_IN["words"]]}, []), time.monotonic() + 60
    while True:
        try:
            client.post("/search", body)
            return
        except RuntimeError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def measure(port: int, rounds: int) -> list[dict[str, float]]:
    """Return the milliseconds of each request, by round."""
    client, photographs = Client(port), make_photographs(rounds + WARM_UP + BATCH, 448, 336)
    uploaded = json.loads(client.post("/masters", encode_form([("file", photographs[-1])])))
    master_id = uploaded["results"][0]["master"]["id"]
    wait_for_words(client)
    vectors = ClusteredVectors().draw(rounds + WARM_UP, seed=MASTERS * 3)
    times = []
    with show_progress() as progress:
        for number in progress.track(range(rounds + WARM_UP), description="rounds"):
            images = photographs[number : number + BATCH]
            inputs = Inputs(images, vectors[number].tolist(), master_id)
            times.append(time_round(client, inputs))
    return times[WARM_UP:]


def measure_embedded(bundle: Path, rounds: int) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        _fill(
            f"sqlite:///{directory}/lookalike.db",
            f"file://{directory}/objects",
            "embedded:",
            bundle,
        )
        port = find_free_port()
        environment = {
            "LOOKALIKE_DATA_DIR": directory,
            "LOOKALIKE_PORT": str(port),
            "LOOKALIKE_WORKER": "off",
        }
        with run_process([sys.executable, "api.py"], "/readyz", environment, port):
            return measure(port, rounds)


def measure_servers(bundle: Path, rounds: int) -> list[dict[str, float]]:
    with run_stack() as stack:
        stack.upgrade_schema()
        _fill(stack.mariadb.url, stack.seaweedfs.url, stack.milvus.url, bundle)
        wait_until_indexed(stack.milvus.url)
        with stack.run_api(worker="off") as service:
            return measure(service.port, rounds)


def _fill(database: str, objects: str, vectors: str, bundle: Path) -> None:
    urls = StoreUrls(database, objects, vectors)
    with show_progress() as progress, closing(open_stores(urls)) as stores:
        fill_spaces(stores, bundle, MASTERS, progress)


STACKS: dict[str, Callable[[Path, int], list[dict[str, float]]]] = {
    "embedded": measure_embedded,
    "servers": measure_servers,
}


def summarize(times: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the median of each request, and the median of its ratios to the plain search."""
    return {
        name: {
            "ms": round(statistics.median(each[name] for each in times), 1),
            "times_plain": round(statistics.median(each[name] / each[PLAIN] for each in times), 2),
        }
        for name in times[0]
    }


def print_results(results: dict[str, dict[str, dict[str, float]]], rounds: int) -> None:
    columns = [title for stack in results for title in (f"{stack}, ms", "times plain")]
    table = make_table(f"{MASTERS:,} masters, medians of {rounds} rounds", "search", *columns)
    for name in next(iter(results.values())):
        figures = [result[name] for result in results.values()]
        cells = [cell for each in figures for cell in (f"{each['ms']}", f"{each['times_plain']}")]
        table.add_row(name, *cells)
    Console(width=120).print(table)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=STACKS, help="measure one of both")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(STACKS)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        bundle = make_vit_b32(Path(directory) / "vit-b32.bundle")
        results = {name: summarize(STACKS[name](bundle, options.rounds)) for name in chosen}
    print_results(results, options.rounds)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
