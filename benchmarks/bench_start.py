"""The start of the service with 100 000 and a million masters, compared with an empty one.

    make bench-start

Embedded installations are filled in the directory for temporary files, which takes 9 GB there. Each
is opened once, which writes the snapshot of its vectors. Then all are started in turn: the time
counts from the start of the process until /readyz answers 200. The first search with a sample, and
the first one with a filter, follow at once. Memory is resident memory above that of the empty
installation.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.filling import add_masters, make_installation
from benchmarks.service import (
    Client,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_process,
)
from models.embedder import load_embedder
from storage.database import Database
from storage.vectors_exact import ExactVectorStore

SIZES = {"empty": 0, "100k": 100_000, "1m": 1_000_000}
FILTER = {"colour": "red", "price": {"$lt": 50}}


def write_snapshot(directory: Path) -> float:
    """Read all vectors from the database and write their snapshot; return the seconds."""
    start = time.perf_counter()
    database = Database(f"sqlite:///{directory}/lookalike.db")
    with closing(database):
        store = ExactVectorStore(
            database, directory / "lookalike.db.vectors", save_after=sys.maxsize
        )
        store.load()
        while store.loading():
            time.sleep(0.05)
        store.close()
    return time.perf_counter() - start


def start_once(directory: Path, body: bytes, filtered: bytes) -> dict[str, float]:
    """Start the service, and search with it; return milliseconds and megabytes by name."""
    port = find_free_port()
    environment = {"LOOKALIKE_DATA_DIR": str(directory), "LOOKALIKE_PORT": str(port)}
    environment["LOOKALIKE_SCRUB_INTERVAL"] = "0"
    with run_process([sys.executable, "api.py"], "/readyz", environment, port) as service:
        client, found = Client(port), {"ready_ms": service.ready_after * 1000}
        for name, each in (("first_search_ms", body), ("first_filtered_ms", filtered)):
            start = time.perf_counter()
            client.post("/search", each)
            found[name] = (time.perf_counter() - start) * 1000
        found["memory_mb"] = service.resident_mb()
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="Starts of each installation.")
    parser.add_argument("--directory", type=Path, help="Keeps the installations there.")
    arguments = parser.parse_args()
    (sample,) = make_photographs(1, 448, 336)
    fields = {"k": "10", "filter": json.dumps(FILTER)}
    bodies = encode_form([("sample", sample)]), encode_form([("sample", sample)], fields)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as temporary:
        root = arguments.directory or Path(temporary)
        version = load_embedder(slots=1).model_version
        snapshot_s = {}
        for name, masters in SIZES.items():
            directory = root / name
            if masters and not directory.exists():
                directory.mkdir(parents=True)
                collection = make_installation(directory, version)
                with Progress() as progress:
                    add_masters(directory, version, collection, range(masters), progress)
            if masters:
                snapshot_s[name] = round(write_snapshot(directory), 1)
        for _ in range(arguments.rounds):
            for name in SIZES:
                for figure, value in start_once(root / name, *bodies).items():
                    times[figure, name].append(value)
    medians = {key: statistics.median(values) for key, values in times.items()}
    figures = list(dict.fromkeys(figure for figure, _ in medians))
    table = Table(title=f"medians of {arguments.rounds} alternating starts")
    for column in ("", *SIZES):
        table.add_column(column, justify="right" if column else "left")
    for figure in figures:
        table.add_row(figure, *(f"{medians[figure, name]:,.0f}" for name in SIZES))
    Console().print(table)
    print(f"Reading the database and writing the snapshot: {snapshot_s} s.")
    result = {f"{figure}_{name}": round(value) for (figure, name), value in medians.items()}
    for name in list(SIZES)[1:]:
        above = medians["memory_mb", name] - medians["memory_mb", "empty"]
        result[f"memory_mb_{name}"] = round(above)
        extra = medians["ready_ms", name] - medians["ready_ms", "empty"]
        result[f"extra_ms_{name}"] = round(extra)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
