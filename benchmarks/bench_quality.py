"""Retrieval quality through HTTP on a labelled folder (one folder a class), leave one out, beside the same vectors offline.

make bench-quality DATA=path/to/labelled/folder
make bench-quality DATA=path/to/labelled/folder ON=servers      MariaDB, SeaweedFS and Milvus, started for it
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.cli.image_files import find_images
from app.settings import cores
from benchmarks.service import Client, Service, form, in_threads, lookalike
from benchmarks.stack import stack
from models.embedder import load_embedder
from models.imaging import decode
from models.transforms import INPUT_SIDE, to_input

PAGE = 1000
REACH = 10_000


def scores(relevant: list[NDArray[np.bool_]]) -> dict[str, float]:
    """R@1, R@10 and mean average precision of ranked relevance, one row a query; queries with nothing relevant are left out."""
    rows = [row for row in relevant if row.any()]
    precisions = [(np.cumsum(row) / np.arange(1, len(row) + 1))[row].mean() for row in rows]
    return {
        "r1": float(np.mean([row[0] for row in rows])),
        "r10": float(np.mean([row[:10].any() for row in rows])),
        "map": float(np.mean(precisions)),
    }


def through_http(
    service: Service, images: list[bytes], labels: list[str], progress: Progress
) -> list[NDArray[np.bool_]]:
    """Import all, search with each, and look which hits have its label."""
    importing = progress.add_task("importing", total=len(images))
    searching = progress.add_task("searching", total=len(images))
    clients = 2 * cores()

    def put_in(number: int) -> None:
        client = Client(service.port)
        for content, label in list(zip(images, labels, strict=True))[number::clients]:
            client.post(
                "/masters", form([("file", content)], {"attributes": json.dumps({"label": label})})
            )
            progress.advance(importing)

    relevant: list[NDArray[np.bool_]] = [np.zeros(0, dtype=np.bool_)] * len(images)

    def search(number: int) -> None:
        client = Client(service.port)
        for query in range(number, len(images), clients):
            row: list[bool] = []
            for offset in range(0, min(len(images), REACH), PAGE):
                fields = {"k": str(min(PAGE, REACH - offset)), "offset": str(offset)}
                hits = json.loads(
                    client.post("/search", form([("sample", images[query])], fields))
                )["hits"]
                row += [
                    hit["master"]["attributes"]["label"] == labels[query]
                    for hit in hits
                    if not hit["exact"]
                ]
            relevant[query] = np.array(row)
            progress.advance(searching)

    in_threads(put_in, clients)
    in_threads(search, clients)
    return relevant


def offline(images: list[bytes], labels: list[str], progress: Progress) -> list[NDArray[np.bool_]]:
    embedder = load_embedder(slots=cores())
    vectors = np.stack(
        [
            embedder.embed(to_input(decode(io.BytesIO(content), min_side=INPUT_SIDE).image)[None])[
                0
            ]
            for content in progress.track(images, description="offline")
        ]
    )
    named = np.array(labels)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1]
    return list(named[order] == named[:, None])


@contextmanager
def service_on(where: str) -> Iterator[Service]:
    """The service on an empty embedded installation, or on empty servers."""
    with ExitStack() as ending:
        if where == "servers":
            servers = ending.enter_context(stack())
            servers.upgrade()
            yield ending.enter_context(servers.api())
        else:
            yield ending.enter_context(lookalike())


def main() -> None:
    if (
        len(sys.argv) != 3
        or not Path(sys.argv[1]).is_dir()
        or sys.argv[2] not in ("embedded", "servers")
    ):
        sys.exit("usage: make bench-quality DATA=path/to/labelled/folder [ON=servers]")
    images: list[bytes] = []
    labels: list[str] = []
    seen: set[bytes] = set()
    for source in find_images([Path(sys.argv[1])], ""):
        with source.open() as file:
            content = file.read()
        digest = hashlib.sha256(content).digest()
        if digest not in seen:  # the service keeps equal bytes once
            seen.add(digest)
            images.append(content)
            labels.append(source.folder)
    with service_on(sys.argv[2]) as service, Progress(console=Console(stderr=True)) as progress:
        served = scores(through_http(service, images, labels, progress))
        alone = scores(offline(images, labels, progress))
    table = Table(
        title=f"{len(images)} images in {len(set(labels))} classes, leave one out, {sys.argv[2]}"
    )
    for column in ("", "R@1", "R@10", "mAP"):
        table.add_column(column)
    for name, row in (("through HTTP", served), ("same vectors, offline", alone)):
        table.add_row(name, *(f"{row[key]:.4f}" for key in ("r1", "r10", "map")))
    Console().print(table)
    print(
        json.dumps(
            {key: round(value, 4) for key, value in served.items()}
            | {"offline_map": round(alone["map"], 4)}
        )
    )


if __name__ == "__main__":
    main()
