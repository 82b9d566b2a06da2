"""Browsing of 100,000 masters by filters and in several orders, on the embedded database.

    make bench-browse
    make bench-browse ARGS="--url mysql+pymysql://user:password@host/empty_database"

Each row is the time of one page of 100 masters and of the number of all matches. No master matches
the filters of 49 conditions, which is the most that a filter may have, so none of them ends early.
The first use of such a filter reads the attributes of the collection.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.reporting import make_table, show_progress
from benchmarks.service import make_parser
from storage.database import Database
from storage.filter_parser import parse_filter
from storage.filters import Filter
from storage.metadata import SqlMetadataStore, new_id
from storage.mysql_engine import DatabaseOptions
from storage.records import Collection, Master, MasterRecord, MasterState
from storage.sorting import parse_sort

MASTERS, BATCH, PAGE, ROUNDS = 100_000, 1000, 100, 9
NEVER = {"tags": {"$contains": "nowhere"}}


def make_filters() -> dict[str, Filter | None]:
    """Return filters by their description."""
    never: list[dict[str, Any]] = [NEVER]
    always: list[dict[str, Any]] = []
    for number in range(12):
        values = [1000 + number, 2000 + number]
        never += [
            {"price": {"$lt": -number - 1}},
            {"folder": f"nowhere {number}"},
            {"shelf": {"$in": values}},
            {"camera.model": {"$gt": f"Z{number}"}},
        ]
        always += [
            {"price": {"$gt": -number - 1}},
            {"folder": {"$ne": f"nowhere {number}"}},
            {"shelf": {"$nin": values}},
            {"camera.model": {"$lt": f"Z{number}"}},
        ]
    return {
        "no filter": None,
        "1 condition, which 1 in 4 meets": parse_filter({"colour": "red"}),
        "1 condition on the name": parse_filter({"name": {"$prefix": "IMG_77"}}),
        "1 pattern of the name": parse_filter({"name": {"$like": "%77%.jpg"}}),
        "2 conditions on the time of capture": parse_filter(
            {"capture.time": {"$gte": "2018-05-01", "$lt": "2018-06-01"}}
        ),
        "a box on the globe": parse_filter({"capture.gps": {"$within": [5, 45, 10, 48]}}),
        "2 conditions, which nobody meets": parse_filter({"$or": never[:2]}),
        "49 conditions with $or, which nobody meets": parse_filter({"$or": never}),
        "49 conditions with $and, of which only the last is not met": parse_filter(
            {"$and": [*always, NEVER]}
        ),
        "49 conditions, which all meet": parse_filter(
            {"$and": [*always, {"tags": {"$exists": True}}]}
        ),
    }


SORTS = ["-created_at", "name", "-name", "capture.time", "-capture.time", "price", "-folder"]


def fill(metadata: SqlMetadataStore) -> Collection:
    """Store the masters, with seven attributes each."""
    generator = random.Random(1)
    collection = Collection(new_id(), "shop", 0)
    metadata.import_collection(collection)
    with show_progress() as progress:
        task = progress.add_task("masters into the database", total=MASTERS)
        for _ in range(0, MASTERS, BATCH):
            metadata.import_records([_record(collection, generator) for _ in range(BATCH)])
            progress.advance(task, BATCH)
    return collection


def _record(collection: Collection, generator: random.Random) -> MasterRecord:
    attributes = {
        "colour": generator.choice(["red", "green", "blue", "black"]),
        "price": round(generator.random() * 100, 2),
        "shelf": generator.randrange(500),
        "folder": f"holiday {generator.randrange(2000)}",
        "camera": {"make": "Leica", "model": generator.choice(["M6", "Q2"])},
        "tags": generator.sample(["a", "b", "c", "d"], 2),
        "sold": generator.random() < 0.5,
    }
    master = Master(
        id=new_id(),
        collection_id=collection.id,
        collection=collection.name,
        sha256=os.urandom(32),
        size=3_000_000,
        mime="image/jpeg",
        extension="jpg",
        width=4000,
        height=3000,
        name=f"IMG_{generator.randrange(10**12)}.jpg",
        attributes=attributes,
        revision=1,
        state=MasterState.STORED,
        created_at=1_750_000_000_000,
        updated_at=1_750_000_000_000,
        capture=_capture(generator),
        capture_reader=1,
    )
    return MasterRecord(master, {"model-1": 1})


def _capture(generator: random.Random) -> dict[str, Any]:
    """Return capture metadata; one file in ten has none."""
    if generator.random() < 0.1:
        return {}
    return {
        "time": 1_500_000_000_000 + generator.randrange(10**11),
        "camera": generator.choice(["Apple iPhone 12", "Canon EOS R5", "NIKON Z 6"]),
        "iso": generator.choice([100, 200, 400]),
        "gps": {"latitude": generator.uniform(-60, 70), "longitude": generator.uniform(-180, 180)},
    }


def measure(metadata: SqlMetadataStore, collection: Collection, filter: Filter | None) -> float:
    """Return the seconds that the first page takes."""
    started = time.perf_counter()
    metadata.list_masters(collection.id, filter, PAGE, None)
    return time.perf_counter() - started


def measure_sort(metadata: SqlMetadataStore, collection: Collection, text: str) -> list[float]:
    """Return the seconds that the first pages take, each of which continues the one before."""
    sort, after, times = parse_sort(text), None, []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        after = metadata.list_masters(collection.id, None, PAGE, after, sort=sort).next_after
        times.append(time.perf_counter() - started)
    return times


def measure_months(metadata: SqlMetadataStore, collection: Collection) -> list[float]:
    """Return the seconds that counting by months takes."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        metadata.count_months(collection.id, None)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--url", default="", help="URL of an empty database on a server")
    url = parser.parse_args().url
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        options = DatabaseOptions(limit_answers=False)
        database = Database(url or f"sqlite:///{Path(directory)}/lookalike.db", options)
        show_times(database)
        database.close()


def show_times(database: Database) -> None:
    table = make_table(
        f"A page of {MASTERS:,} masters",
        "filter or order",
        "first (ms)",
        "median (ms)",
        "worst (ms)",
    )
    metadata = SqlMetadataStore(database)
    metadata.upgrade_schema()
    collection = fill(metadata)

    def show(name: str, first: float, times: list[float]) -> None:
        median = statistics.median(times)
        table.add_row(name, *(f"{1000 * each:.0f}" for each in (first, median, max(times))))

    for name, conditions in make_filters().items():
        started = SqlMetadataStore(database)  # it has read nothing yet
        first = measure(started, collection, conditions)
        show(name, first, [measure(started, collection, conditions) for _ in range(ROUNDS)])
    for text in SORTS:
        first, *others = measure_sort(SqlMetadataStore(database), collection, text)
        show(f"sort={text}", first, others)
    first, *others = measure_months(metadata, collection)
    show("the numbers by month", first, others)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
