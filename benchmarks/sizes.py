"""Disk space that masters take in MariaDB, and in the embedded database with their vectors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from uuid import UUID

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.reporting import make_table, show_progress
from storage.database import Database
from storage.metadata import SqlMetadataStore, new_id
from storage.records import Collection, Master, MasterRecord, MasterState, VectorRecord, whole_image
from storage.vectors_exact import ExactVectorStore
from tests.support.servers import Server, mariadb

MASTERS = 100_000  # measured; the table shows the size of a million
VERSION = "resnet50-512-of-a-benchmark"
_BATCH = 1000
_VECTOR = np.full(512, 512**-0.5, dtype=np.float32)
_ATTRIBUTES = {
    "shelf": 17,
    "colour": "red",
    "folder": "holiday 2024",
    "camera": {"make": "Leica", "model": "M6"},
}


def measure_sizes(console: Console, largest: int) -> dict[str, float | None]:
    """Print the disk space of a million masters with small attributes, extrapolated."""
    table = make_table("Disk space of a million masters with small attributes", "", "GB")
    with (
        show_progress() as progress,
        tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory,
    ):
        server = mariadb(Path(directory) / "mariadb")
        try:
            server.start()
            sizes = {"MariaDB": measure_mariadb_bytes(server, MASTERS, progress)}
        finally:
            server.kill()
        embedded = measure_embedded_bytes(Path(directory), MASTERS, progress)
        sizes["embedded, with vectors"] = embedded
    for name, size in sizes.items():
        table.add_row(name, f"{size / MASTERS / 1000:.1f}")
    console.print(table)
    return {}


def measure_mariadb_bytes(server: Server, count: int, progress: Progress) -> int:
    """Return the bytes that ``count`` masters take in tables and indexes, without the redo log."""
    metadata = SqlMetadataStore(Database(server.url))
    metadata.upgrade_schema()
    before = _table_bytes(server)
    _fill(metadata, None, count, progress, f"{count:,} masters into MariaDB")
    after = _table_bytes(server)
    metadata.close()
    return after - before


def measure_embedded_bytes(directory: Path, count: int, progress: Progress) -> int:
    """Return the bytes of the embedded database with ``count`` masters and their vectors."""
    database = Database(f"sqlite:///{directory}/lookalike.db")
    metadata = SqlMetadataStore(database)
    metadata.upgrade_schema()
    vectors = ExactVectorStore(database)
    _fill(metadata, vectors, count, progress, f"{count:,} masters into SQLite")
    vectors.close()
    metadata.close()
    return sum(file.stat().st_size for file in directory.glob("lookalike.db*") if file.is_file())


def _fill(
    metadata: SqlMetadataStore,
    vectors: ExactVectorStore | None,
    count: int,
    progress: Progress,
    title: str,
) -> None:
    collection = Collection(new_id(), "sizes", 0)
    metadata.import_collection(collection)
    task = progress.add_task(title, total=count)
    for _ in range(0, count, _BATCH):
        records = [_make_record(collection.id) for _ in range(_BATCH)]
        metadata.import_records(records)
        if vectors is not None:
            made = [
                VectorRecord(record.master.id, collection.id, whole_image(_VECTOR), _ATTRIBUTES, 1)
                for record in records
            ]
            vectors.upsert(VERSION, made)
        progress.advance(task, _BATCH)


def _make_record(collection_id: UUID) -> MasterRecord:
    master = Master(
        id=new_id(),
        collection_id=collection_id,
        collection="sizes",
        sha256=os.urandom(32),
        size=3_000_000,
        mime="image/jpeg",
        extension="jpg",
        width=4000,
        height=3000,
        name="IMG_20240817_173012.jpg",
        attributes=_ATTRIBUTES,
        revision=1,
        state=MasterState.STORED,
        created_at=1_750_000_000_000,
        updated_at=1_750_000_000_000,
    )
    return MasterRecord(master, {VERSION: 1})


def _table_bytes(server: Server) -> int:
    tables = Path(server.directory, "data", "lookalike").glob("*.ibd")
    return sum(file.stat().st_size for file in tables)
