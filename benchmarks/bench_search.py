"""Search over 100 000 masters through HTTP, beside the same decode + embed + exact search called directly; and how
responsive the service stays while 32 photographs of 12 megapixels are uploaded at once.

    make bench-search
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from app.settings import cores
from benchmarks.service import Client, form, free_port, in_threads, photographs, running, upload_all
from models.embedder import load_embedder
from models.imaging import decode
from models.transforms import INPUT_SIDE, to_input
from storage.database import Database
from storage.factory import open_stores
from storage.filters import parse_filter
from storage.metadata import new_id
from storage.records import MasterState
from storage.store_urls import StoreUrls
from storage.tables import EmbeddingRow, MasterRow, VectorRow
from storage.vectors_exact import ExactVectorStore

MASTERS = 100_000
ROUNDS = 200
UPLOADS = 32
FILTER = {"colour": "red", "price": {"$lt": 50}}  # holds for one master in eight


def fill(directory: Path, version: str) -> UUID:
    """An embedded installation with that many masters of random vectors; the id of its default collection."""
    url = f"sqlite:///{directory}/lookalike.db"
    stores = open_stores(StoreUrls(url, f"file://{directory}/objects", "embedded:"))
    stores.registry.register_active(version)
    collection = stores.metadata.create_collection("default")
    stores.close()
    database = Database(url)
    random = np.random.default_rng(1)
    batch = 5000
    for start in track(range(0, MASTERS, batch), description="filling"):
        vectors = random.normal(size=(batch, 512)).astype("<f4")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        masters, embeddings, rows = [], [], []
        for number in range(batch):
            id_, sha = new_id(), random.bytes(32)
            attributes = {
                "colour": ("red", "green", "blue", "black")[number % 4],
                "price": float(random.integers(0, 10_000)) / 100,
            }
            masters.append(
                {
                    "id": id_,
                    "collection_id": collection.id,
                    "sha256": sha,
                    "live_sha256": sha,
                    "size": 1,
                    "mime": "image/jpeg",
                }
                | {
                    "extension": "jpg",
                    "width": 1,
                    "height": 1,
                    "name": f"{start + number}.jpg",
                    "attributes": attributes,
                }
                | {"revision": 1, "state": MasterState.STORED, "created_at": 0, "updated_at": 0}
            )
            embeddings.append(
                {
                    "master_id": id_,
                    "model_version": version,
                    "state": "indexed",
                    "attempts": 0,
                    "run_after": 0,
                    "indexed_revision": 1,
                }
            )
            rows.append(
                {
                    "model_version": version,
                    "master_id": id_,
                    "collection_id": collection.id,
                    "vector": vectors[number].tobytes(),
                }
                | {"attributes": attributes, "revision": 1}
            )
        with database.write() as connection:
            for table, values in (
                (MasterRow, masters),
                (EmbeddingRow, embeddings),
                (VectorRow, rows),
            ):
                connection.execute(sa.insert(table), values)
    database.close()
    return collection.id


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def livez_during_uploads(port: int) -> list[float]:
    """Milliseconds of each /livez while 32 uploads are under way."""
    bodies = [form([("file", image)]) for image in photographs(UPLOADS * 2, 4000, 3000, seed=77)]
    client, times, done = Client(port), [], threading.Event()

    def poll() -> None:
        while not done.is_set():
            times.append(milliseconds(lambda: client.get("/livez")))
            time.sleep(0.005)

    poller = threading.Thread(target=poll)
    poller.start()
    upload_all(port, bodies, UPLOADS)
    done.set()
    poller.join()
    return times


def main() -> None:
    embedder = load_embedder(slots=cores())
    samples = photographs(ROUNDS, 448, 336, seed=9)
    bodies = [form([("sample", image)], {"k": "10"}) for image in samples]
    filtered = [
        form([("sample", image)], {"k": "10", "filter": json.dumps(FILTER)}) for image in samples
    ]
    with tempfile.TemporaryDirectory() as directory:
        collection = fill(Path(directory), embedder.model_version)
        database = Database(f"sqlite:///{directory}/lookalike.db")
        direct_store = ExactVectorStore(database)
        direct_store.load()
        condition = parse_filter(FILTER)

        def direct(content: bytes) -> None:
            vector = embedder.embed(
                to_input(decode(io.BytesIO(content), min_side=INPUT_SIDE).image)[None]
            )[0]
            direct_store.search(embedder.model_version, collection, vector, 10)

        random = np.random.default_rng(2).normal(size=(ROUNDS, 512)).astype(np.float32)
        random /= np.linalg.norm(random, axis=1, keepdims=True)
        port = free_port()
        times: dict[str, list[float]] = {}
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        with running([sys.executable, "api.py"], "/readyz", environment, port) as service:
            client = Client(port)
            for number in range(-10, ROUNDS):  # the first ten warm up
                measured = {
                    "exact vector search": milliseconds(
                        lambda: direct_store.search(
                            embedder.model_version, collection, random[number], 10
                        )
                    ),
                    "exact vector search + filter": milliseconds(
                        lambda: direct_store.search(
                            embedder.model_version, collection, random[number], 10, condition
                        )
                    ),
                    "decode + embed + exact search, called directly": milliseconds(
                        lambda: direct(samples[number])
                    ),
                    "POST /search": milliseconds(lambda: client.post("/search", bodies[number])),
                    "POST /search with a filter": milliseconds(
                        lambda: client.post("/search", filtered[number])
                    ),
                }
                if number >= 0:
                    for name, value in measured.items():
                        times.setdefault(name, []).append(value)

            def many(number: int) -> None:
                own = Client(port)
                for body in bodies[number::8]:
                    own.post("/search", body)

            rate = ROUNDS / in_threads(many, 8)
            livez = livez_during_uploads(port)
            resident = service.resident_mb()
        direct_store.close()
        database.close()
    table = Table(title=f"{MASTERS} masters, {ROUNDS} rounds in turn, milliseconds")
    for column in ("", "p50", "p95"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in times.items():
        table.add_row(name, f"{statistics.median(values):.1f}", f"{np.percentile(values, 95):.1f}")
    table.add_row(
        f"GET /livez while {UPLOADS} uploads run",
        f"{statistics.median(livez):.1f}",
        f"{np.percentile(livez, 95):.1f}",
    )
    Console().print(table)
    print(
        f"8 clients: {rate:.0f} searches/s. Ready {service.ready_after:.1f} s after the start; {resident:.0f} MB resident."
    )
    ratio = statistics.median(times["POST /search"]) / statistics.median(
        times["decode + embed + exact search, called directly"]
    )
    print(
        json.dumps(
            {
                "p50_over_direct": round(ratio, 3),
                "livez_p99_ms": round(float(np.percentile(livez, 99)), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
