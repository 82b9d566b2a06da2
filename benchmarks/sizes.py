"""What a master's row and its embedding's take in MariaDB, for the sizing guide."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from rich.progress import Progress

from storage.database import Database
from storage.metadata import SqlMetadataStore, new_id
from storage.protocols import Collection, Master, MasterRecord, MasterState
from tests.servers import Server

VERSION = "resnet50-512-of-a-benchmark"
BATCH = 1000
_ATTRIBUTES = {"shelf": 17, "colour": "red", "folder": "holiday 2024", "camera": {"make": "Leica", "model": "M6"}}


def database_bytes(server: Server, count: int, progress: Progress) -> int:
    """Bytes on disk of ``count`` masters with small attributes: tables and indexes, without the redo log."""
    metadata = SqlMetadataStore(Database(server.url))
    metadata.migrate()
    before = _tables(server)
    collection = Collection(new_id(), "sizes", 0)
    metadata.adopt_collection(collection)
    task = progress.add_task(f"{count:,} rows into MariaDB", total=count)
    for _ in range(0, count, BATCH):
        metadata.adopt_masters([_record(collection.id) for _ in range(BATCH)])
        progress.advance(task, BATCH)
    after = _tables(server)
    metadata.close()
    return after - before


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
    return sum(file.stat().st_size for file in Path(server.directory, "data", "lookalike").glob("*.ibd"))
