"""Collects everything that an installation shows over HTTP, to compare it with its copy."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.images import CAT, encoded, part_of

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
        for number, image in enumerate([CAT, *IMAGES]):
            response = client.post(
                "/search",
                files={"sample": ("a.jpg", image)},
                data={"collection": collection, "k": "20"},
            )
            hits = response.json()["hits"]
            seen[f"{collection} {number}"] = [
                (hit["master"], round(hit["distance"], 3), hit["exact"]) for hit in hits
            ]
    return seen
