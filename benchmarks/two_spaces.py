"""Fills any stores with masters that have vectors in `look` and `words`, and no bytes."""

from __future__ import annotations

import time
from pathlib import Path

from pymilvus import MilvusClient
from rich.progress import Progress

from app.services.encoder_files import EncoderFiles
from benchmarks.synthetic_vectors import ClusteredVectors
from models.capture.reading import READER
from models.embedder import read_encoder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from storage.protocols import Stores
from storage.records import (
    LOOK,
    WORDS,
    Collection,
    Master,
    MasterRecord,
    MasterState,
    VectorRecord,
    new_id,
    whole_image,
)

_BATCH = 1000
_COLOURS = ("red", "green", "blue", "black")
_SETTLE_TIMEOUT = 300.0  # seconds


def fill_spaces(stores: Stores, bundle: Path, masters: int, progress: Progress) -> None:
    """Fill the default collection of empty stores, with the bundle as the encoder of `words`."""
    versions = {
        LOOK: WeightsFile.load(DEFAULT_WEIGHTS).version,
        WORDS: read_encoder(bundle).version,
    }
    with bundle.open("rb") as file:
        EncoderFiles(stores.objects).store(versions[WORDS], file)
    stores.registry.replace_active(versions)
    collection = stores.metadata.create_collection("default")
    source, task = ClusteredVectors(), progress.add_task("adding masters", total=masters)
    for start in range(0, masters, _BATCH):
        records = [_make_record(collection, n, versions) for n in range(start, start + _BATCH)]
        stores.metadata.import_records(records)
        for number, version in enumerate(versions.values()):
            vectors = source.draw(_BATCH, seed=2 * start + number)
            rows = [
                VectorRecord(
                    each.master.id,
                    collection.id,
                    whole_image(vector),
                    each.master.indexed_fields,
                    each.master.revision,
                )
                for each, vector in zip(records, vectors, strict=True)
            ]
            stores.vectors.upsert(version, rows)
        progress.advance(task, _BATCH)


def _make_record(collection: Collection, number: int, versions: dict[str, str]) -> MasterRecord:
    """Make a master, stored and indexed; ten others have the same product."""
    master = Master(
        id=new_id(),
        collection_id=collection.id,
        collection=collection.name,
        sha256=number.to_bytes(32),
        size=1,
        mime="image/jpeg",
        extension="jpg",
        width=1,
        height=1,
        name=f"{number:07}.jpg",
        attributes={
            "colour": _COLOURS[number % 4],
            "price": number % 9973 / 100,
            "product": number % 10_000,
        },
        revision=1,
        state=MasterState.STORED,
        created_at=0,
        updated_at=0,
        capture={},
        capture_reader=READER,  # otherwise the worker would try to read the missing file
    )
    return MasterRecord(master, dict.fromkeys(versions.values(), 1))


def wait_until_indexed(url: str) -> None:
    """Wait until Milvus has indexed what it was sent. Raises RuntimeError after five minutes."""
    client, until = MilvusClient(url), time.monotonic() + _SETTLE_TIMEOUT
    names = client.list_collections()
    for name in names:
        client.flush(name, timeout=_SETTLE_TIMEOUT)
    while not all(_is_indexed(client, name) for name in names):
        if time.monotonic() > until:
            raise RuntimeError(f"Milvus did not build its indexes within {_SETTLE_TIMEOUT:.0f} s.")
        time.sleep(1)
    client.close()


def _is_indexed(client: MilvusClient, name: str) -> bool:
    """Report whether all rows are in an index; those of merged segments may be pending for long."""
    index = client.describe_index(name, "vector")
    return bool(index["indexed_rows"] == index["total_rows"] > 0)
