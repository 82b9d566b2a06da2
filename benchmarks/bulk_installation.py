"""Makes embedded installations of up to millions of masters quickly, without bytes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from rich.progress import track

from benchmarks.synthetic_vectors import ClusteredVectors
from storage.factory import open_stores
from storage.metadata import new_id
from storage.records import LOOK
from storage.store_urls import StoreUrls

_BATCH = 10_000
_COLOURS = ("red", "green", "blue", "black")
_TABLES = {
    "masters": "id collection_id sha256 live_sha256 size mime extension width height name"
    " attributes revision state created_at updated_at capture_reader",
    "embeddings": "master_id model_version state attempts run_after indexed_revision",
    "vectors": "model_version master_id part collection_id vector attributes revision",
}


def fill_quickly(directory: Path, version: str, masters: int) -> UUID:
    """Make an installation whose vectors resemble embeddings; return its collection's id.

    ``masters`` is rounded up to a multiple of 10 000.
    """
    url = f"sqlite:///{directory}/lookalike.db"
    stores = open_stores(
        StoreUrls(url, f"file://{directory}/objects", "embedded:"), load_vectors=False
    )
    stores.registry.register_active(version, LOOK)
    collection = stores.metadata.create_collection("default")
    stores.close()
    source = ClusteredVectors()
    rng = np.random.default_rng(1)
    with closing(sqlite3.connect(directory / "lookalike.db")) as database:
        database.execute("PRAGMA synchronous = OFF")
        for start in track(range(0, masters, _BATCH), description="filling the database"):
            vectors = source.draw(_BATCH, start)
            rows = zip(*_make_rows(rng, start, collection.id.bytes, version, vectors), strict=True)
            with database:
                for (table, columns), values in zip(_TABLES.items(), rows, strict=True):
                    names = columns.split()
                    database.executemany(
                        f"INSERT INTO {table} ({', '.join(names)})"  # noqa: S608 - our own names
                        f" VALUES ({', '.join('?' * len(names))})",
                        values,
                    )
    return collection.id


def _make_rows(
    rng: np.random.Generator, start: int, collection: bytes, version: str, vectors: Any
) -> Iterator[tuple[tuple[Any, ...], ...]]:
    """Yield the rows of each master: itself, its embedding and its vector."""
    prices = rng.integers(0, 10_000, len(vectors)) / 100
    for number, (vector, price) in enumerate(zip(vectors, prices.tolist(), strict=True), start):
        id_, digest = new_id().bytes, rng.bytes(32)
        attributes = json.dumps(
            {"colour": _COLOURS[number % 4], "price": price, "sku": f"{number:07}"}
        )
        file = (id_, collection, digest, digest, 1, "image/jpeg", "jpg", 1, 1, f"{number}.jpg")
        yield (
            (*file, attributes, 1, "stored", 0, 0, 1),
            (id_, version, "indexed", 0, 0, 1),
            (version, id_, 0, collection, vector.tobytes(), attributes, 1),
        )
