"""Compares what an installation shows over HTTP with its copy, and loses its database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.images import CAT, encoded, part_of
from tests.support.requests import search
from tests.support.service import eventually

IMAGES = [encoded(part_of("coffee", seed)) for seed in range(12)]


def answers(client: httpx.Client) -> dict[str, Any]:
    """Return listings, bytes and searches of the collections default and animals."""
    seen: dict[str, Any] = {"collections": client.get("/collections").json()}
    for collection in ("default", "animals"):
        listed = client.get("/masters", params={"collection": collection}).json()
        seen[collection] = listed
        seen[f"{collection} bytes"] = [
            client.get(master["links"]["content"]).content for master in listed["masters"]
        ]
        with ThreadPoolExecutor(8) as pool:  # each search waits for the next tick of Milvus
            searches = pool.map(
                lambda image, into=collection: search(client, image, collection=into, k="20"),
                [CAT, *IMAGES],
            )
            for number, hits in enumerate(searches):
                seen[f"{collection} {number}"] = [
                    (hit["master"], round(hit["distance"], 3), hit["exact"]) for hit in hits
                ]
    return seen


def comes_to_show(client: httpx.Client, expected: dict[str, Any], seconds: float) -> bool:
    """Return whether ``answers`` becomes what is expected in that time.

    A search may be refused meanwhile: Milvus takes seconds to load a new collection on a busy
    machine.
    """

    def shows() -> bool:
        with suppress(AssertionError):
            return answers(client) == expected
        return False

    return eventually(shows, seconds)


def remove_database(directory: Path) -> None:
    """Remove the files of an installation's database, but not the vectors' files beside it."""
    for path in directory.glob("lookalike.db*"):
        if path.is_file():
            path.unlink()
