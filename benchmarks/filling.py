"""Fills an embedded installation with masters that have vectors and no bytes, quickly."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from uuid import UUID

from rich.progress import Progress

from benchmarks.synthetic_vectors import ClusteredVectors
from models.capture.reading import READER
from storage.factory import open_stores
from storage.records import LOOK, new_id
from storage.store_urls import StoreUrls

_BATCH = 10_000
_COLOURS = ("red", "green", "blue", "black")
_Row = dict[str, object]


def make_installation(directory: Path, version: str) -> UUID:
    """Make an empty embedded installation. Returns the id of its default collection."""
    url = f"sqlite:///{directory}/lookalike.db"
    with closing(open_stores(StoreUrls(url, f"file://{directory}/objects", "embedded:"))) as stores:
        stores.registry.register_active(version, LOOK)
        return stores.metadata.create_collection("default").id


def add_masters(
    directory: Path, version: str, collection: UUID, numbers: range, progress: Progress
) -> list[UUID]:
    """Add a master for each number, and return their ids. No other process may use the files.

    The rows are written without the service's statements and without fsync: a million take about a
    minute.
    """
    task = progress.add_task("adding masters", total=len(numbers))
    source, ids = ClusteredVectors(), []
    with closing(sqlite3.connect(directory / "lookalike.db")) as database:
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA cache_size=-500000")
        for start in range(numbers.start, numbers.stop, _BATCH):
            part = range(start, min(start + _BATCH, numbers.stop))
            vectors = source.draw(len(part), seed=start)
            batch = [new_id() for _ in part]
            attributes = [
                json.dumps({"colour": _COLOURS[n % 4], "price": n % 10_000 / 100, "sku": f"{n:07}"})
                for n in part
            ]
            described = list(zip(part, batch, attributes, strict=True))
            _insert(database, "masters", _master_rows(described, collection))
            _insert(database, "embeddings", _embedding_rows(batch, version))
            rows = _vector_rows(described, vectors.astype("<f4"), version, collection)
            _insert(database, "vectors", rows)
            database.commit()
            ids += batch
            progress.advance(task, len(part))
    return ids


def _master_rows(described: Sequence[tuple[int, UUID, str]], collection: UUID) -> Iterator[_Row]:
    for number, id_, attributes in described:
        digest = number.to_bytes(32)
        yield {
            "id": id_.bytes,
            "collection_id": collection.bytes,
            "sha256": digest,
            "live_sha256": digest,
            "size": 1,
            "mime": "image/jpeg",
            "extension": "jpg",
            "width": 1,
            "height": 1,
            "name": f"{number:07}.jpg",
            "attributes": attributes,
            "revision": 1,
            "state": "stored",
            "created_at": 0,
            "updated_at": 0,
            "capture_reader": READER,  # otherwise the worker would try to read the missing files
        }


def _embedding_rows(ids: Sequence[UUID], version: str) -> Iterator[_Row]:
    for id_ in ids:
        yield {
            "master_id": id_.bytes,
            "model_version": version,
            "state": "indexed",
            "attempts": 0,
            "run_after": 0,
            "indexed_revision": 1,
        }


def _vector_rows(
    described: Sequence[tuple[int, UUID, str]],
    vectors: Sequence[object],
    version: str,
    collection: UUID,
) -> Iterator[_Row]:
    for (_, id_, attributes), vector in zip(described, vectors, strict=True):
        yield {
            "model_version": version,
            "master_id": id_.bytes,
            "part": 0,
            "collection_id": collection.bytes,
            "vector": memoryview(vector),  # type: ignore[arg-type] # a row of an array
            "attributes": attributes,
            "revision": 1,
        }


def _insert(database: sqlite3.Connection, table: str, rows: Iterator[_Row]) -> None:
    """Insert rows that all have the columns of the first one."""
    first = next(rows)
    columns = ", ".join(first)
    marks = ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
    database.execute(statement, first)
    database.executemany(statement, rows)
