"""What masters take in MariaDB and in the embedded database with their vectors, for the sizing guide."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import numpy as np
from rich.progress import Progress

from storage.database import Database
from storage.metadata import SqlMetadataStore, new_id
from storage.records import Collection, Master, MasterRecord, MasterState, VectorRecord
from storage.vectors_exact import ExactVectorStore
from tests.support.servers import Server

VERSION = "resnet50-512-of-a-benchmark"
BATCH = 1000
_VECTOR = np.full(512, 512**-0.5, dtype=np.float32)
_ATTRIBUTES = {
    "shelf": 17,
    "colour": "red",
    "folder": "holiday 2024",
    "camera": {"make": "Leica", "model": "M6"},
}


def mariadb_bytes(server: Server, count: int, progress: Progress) -> int:
    """Bytes on disk of ``count`` masters with small attributes: tables and indexes, without the redo log."""
    metadata = SqlMetadataStore(Database(server.url))
    metadata.upgrade_schema()
    before = _tables(server)
    _fill(metadata, None, count, progress, f"{count:,} masters into MariaDB")
    after = _tables(server)
    metadata.close()
    return after - before


def embedded_bytes(directory: Path, count: int, progress: Progress) -> int:
    """Bytes on disk of the embedded database with ``count`` masters and their vectors."""
    database = Database(f"sqlite:///{directory}/lookalike.db")
    metadata = SqlMetadataStore(database)
    metadata.upgrade_schema()
    vectors = ExactVectorStore(database)
    _fill(metadata, vectors, count, progress, f"{count:,} masters into SQLite")
    vectors.close()
    metadata.close()
    return sum(file.stat().st_size for file in directory.glob("lookalike.db*"))


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
    for _ in range(0, count, BATCH):
        records = [_record(collection.id) for _ in range(BATCH)]
        metadata.import_records(records)
        if vectors is not None:
            made = [
                VectorRecord(record.master.id, collection.id, _VECTOR, _ATTRIBUTES, 1)
                for record in records
            ]
            vectors.upsert(VERSION, made)
        progress.advance(task, BATCH)


def _record(collection_id: UUID) -> MasterRecord:
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


def _tables(server: Server) -> int:
    return sum(
        file.stat().st_size for file in Path(server.directory, "data", "lookalike").glob("*.ibd")
    )
