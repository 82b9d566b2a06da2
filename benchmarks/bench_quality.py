"""Retrieval quality over HTTP, compared with the same vectors ranked exactly in memory.

    make bench-quality DATA=path/to/labelled/folder
    make bench-quality DATA=path/to/labelled/folder ON=servers

DATA has one folder per class; every image is a query among all others. The exact ranking is the
bound: the service can at best equal it. ON=servers starts MariaDB, SeaweedFS and Milvus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.image_files import find_images
from benchmarks.direct import embed_bytes
from benchmarks.service import (
    Client,
    ServiceProcess,
    encode_form,
    make_parser,
    run_lookalike,
    time_threads,
)
from benchmarks.stack import run_stack
from models.embedder import load_embedder
from storage.cores import available_cores

PAGE = 1000  # the most hits that one search returns
REACH = 10_000  # the most hits that a query can page through


def compute_scores(relevant: list[NDArray[np.bool_]]) -> dict[str, float]:
    """Compute R@1, R@10 and mean average precision.

    Each row is the ranking of one query, nearest first: true where the hit has its class. Queries
    without any relevant hit are left out.
    """
    rows = [row for row in relevant if row.any()]
    precisions = [(np.cumsum(row) / np.arange(1, len(row) + 1))[row].mean() for row in rows]
    return {
        "r1": float(np.mean([row[0] for row in rows])),
        "r10": float(np.mean([row[:10].any() for row in rows])),
        "map": float(np.mean(precisions)),
    }


def rank_over_http(
    service: ServiceProcess, images: list[bytes], labels: list[str], progress: Progress
) -> list[NDArray[np.bool_]]:
    """Upload all images and search with each; the rows say which hits have its label."""
    uploading = progress.add_task("uploading", total=len(images))
    searching = progress.add_task("searching", total=len(images))
    clients = 2 * available_cores()
    relevant: list[NDArray[np.bool_]] = [np.zeros(0, dtype=np.bool_)] * len(images)

    def upload(number: int) -> None:
        client = Client(service.port)
        for content, label in list(zip(images, labels, strict=True))[number::clients]:
            attributes = {"attributes": json.dumps({"label": label})}
            client.post("/masters", encode_form([("file", content)], attributes))
            progress.advance(uploading)

    def search(number: int) -> None:
        client = Client(service.port)
        for query in range(number, len(images), clients):
            row: list[bool] = []
            for offset in range(0, min(len(images), REACH), PAGE):
                fields = {"k": str(min(PAGE, REACH - offset)), "offset": str(offset)}
                body = encode_form([("sample", images[query])], fields)
                hits = json.loads(client.post("/search", body))["hits"]
                row += [
                    hit["master"]["attributes"]["label"] == labels[query]
                    for hit in hits
                    if not hit["exact"]  # the query itself
                ]
            relevant[query] = np.array(row)
            progress.advance(searching)

    time_threads(upload, clients)
    time_threads(search, clients)
    return relevant


def rank_in_memory(
    images: list[bytes], labels: list[str], progress: Progress
) -> list[NDArray[np.bool_]]:
    """Rank all images for each by exact cosine similarity; the rows are as in rank_over_http."""
    embedder = load_embedder(slots=available_cores())
    tracked = progress.track(images, description="ranking in memory")
    vectors = np.stack([embed_bytes(embedder, content) for content in tracked])
    classes = np.array(labels)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
    return list(classes[order] == classes[:, None])


@contextmanager
def run_service_on(where: str) -> Iterator[ServiceProcess]:
    """Run the service on an empty embedded installation, or on empty servers."""
    with ExitStack() as exits:
        if where == "servers":
            servers = exits.enter_context(run_stack())
            servers.upgrade_schema()
            yield exits.enter_context(servers.run_api())
        else:
            yield exits.enter_context(run_lookalike())


def read_labelled_files(folder: Path) -> tuple[list[bytes], list[str]]:
    """Return contents and labels, each content once, because the service deduplicates too."""
    contents: dict[bytes, tuple[bytes, str]] = {}
    for source in find_images([folder], ""):
        with source.open() as file:
            content = file.read()
        contents.setdefault(hashlib.sha256(content).digest(), (content, source.folder))
    images, labels = zip(*contents.values(), strict=True)
    return list(images), list(labels)


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder with one folder per class")
    parser.add_argument("on", choices=("embedded", "servers"), help="the stores to use")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(
            f"there is no folder {arguments.data}: set DATA to one with a folder per class"
        )
    return arguments


def main() -> None:
    arguments = parse_arguments()
    images, labels = read_labelled_files(arguments.data)
    with (
        run_service_on(arguments.on) as service,
        Progress(console=Console(stderr=True)) as progress,
    ):
        served = compute_scores(rank_over_http(service, images, labels, progress))
        exact = compute_scores(rank_in_memory(images, labels, progress))
    classes = len(set(labels))
    table = Table(
        title=f"{len(images)} images of {classes} classes, leaving one out, {arguments.on} stores"
    )
    for column in ("", "R@1", "R@10", "mAP"):
        table.add_column(column)
    for name, row in (("over HTTP", served), ("same vectors in memory", exact)):
        table.add_row(name, *(f"{row[key]:.4f}" for key in ("r1", "r10", "map")))
    Console().print(table)
    result = {key: round(value, 4) for key, value in served.items()}
    print(json.dumps(result | {"offline_map": round(exact["map"], 4)}))


if __name__ == "__main__":
    main()
