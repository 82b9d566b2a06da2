"""Browsing of 100,000 masters by filters, on the embedded database.

    make bench-browse

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
from storage.database import Database
from storage.filters import Filter, parse_filter
from storage.metadata import SqlMetadataStore, new_id
from storage.records import Collection, Master, MasterRecord, MasterState

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
        "2 conditions, which nobody meets": parse_filter({"$or": never[:2]}),
        "49 conditions with $or, which nobody meets": parse_filter({"$or": never}),
        "49 conditions with $and, of which only the last is not met": parse_filter(
            {"$and": [*always, NEVER]}
        ),
        "49 conditions, which all meet": parse_filter(
            {"$and": [*always, {"tags": {"$exists": True}}]}
        ),
    }


def fill(metadata: SqlMetadataStore) -> Collection:
    """Store the masters, with seven attributes each."""
    generator = random.Random(1)
    collection = Collection(new_id(), "shop", 0)
    metadata.import_collection(collection)
    with show_progress() as progress:
        task = progress.add_task("masters into SQLite", total=MASTERS)
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
        name="IMG_20240817_173012.jpg",
        attributes=attributes,
        revision=1,
        state=MasterState.STORED,
        created_at=1_750_000_000_000,
        updated_at=1_750_000_000_000,
    )
    return MasterRecord(master, {"model-1": 1})


def measure(metadata: SqlMetadataStore, collection: Collection, filter: Filter | None) -> float:
    """Return the seconds that the first page takes."""
    started = time.perf_counter()
    metadata.list_masters(collection.id, filter, PAGE, None)
    return time.perf_counter() - started


def main() -> None:
    table = make_table(
        f"The first page of {MASTERS:,} masters",
        "filter",
        "first (ms)",
        "median (ms)",
        "worst (ms)",
    )
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        url = f"sqlite:///{Path(directory)}/lookalike.db"
        database = Database(url)
        metadata = SqlMetadataStore(database)
        metadata.upgrade_schema()
        collection = fill(metadata)
        for name, conditions in make_filters().items():
            started = SqlMetadataStore(database)  # it has read nothing yet
            first = measure(started, collection, conditions)
            times = [measure(started, collection, conditions) for _ in range(ROUNDS)]
            table.add_row(
                name, *(f"{1000 * t:.0f}" for t in (first, statistics.median(times), max(times)))
            )
        database.close()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
