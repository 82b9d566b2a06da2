"""Checks that each answer of a space is that of one version, which was active at the time."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import httpx
import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from models.imaging import decode_image

NO_VERSION = ""  # stands for a space that does not exist
_TOLERANCE = 0.01  # of a distance; the vectors of two versions are unrelated


class Timeline:
    """The versions that a space may answer with, as its operator changes them. Thread-safe."""

    def __init__(self, version: str = NO_VERSION) -> None:
        self._log = [(0.0, frozenset({version}))]

    @property
    def current(self) -> frozenset[str]:
        return self._log[-1][1]

    def expect(self, versions: Iterable[str]) -> None:
        """State which versions are possible from now on: both, while a change is not answered."""
        self._log.append((time.monotonic(), frozenset(versions)))

    def since(self, begin: float) -> set[str]:
        """Return all versions that were possible at ``begin``, a monotonic time, or later."""
        log = list(self._log)
        first = max(number for number, (start, _) in enumerate(log) if start <= begin)
        return {version for _, versions in log[first:] for version in versions}


class SpaceCheck:
    """Compares the answers of a space with its timeline and with distances computed here."""

    def __init__(
        self, name: str, timeline: Timeline, find_embedder: Callable[[str], Embedder]
    ) -> None:
        """``find_embedder`` returns an encoder with the distances of a version."""
        self.name = name
        self.timeline = timeline
        self._find_embedder = find_embedder
        self._vectors: dict[tuple[str, bytes], NDArray[np.float32]] = {}
        self._lock = threading.Lock()
        self.answers = 0
        self.distances = 0

    def check_answer(
        self, response: httpx.Response, begin: float, sample: bytes, contents: Mapping[str, bytes]
    ) -> None:
        """Check an answer to a request that was sent at ``begin``.

        ``contents`` has the images by the ids of their masters. Raises AssertionError.
        """
        possible, answer = self.timeline.since(begin), response.json()
        if response.status_code != 200:
            assert answer["code"] == "space-not-found", answer
            assert NO_VERSION in possible, f"{self.name} is not found, but has one of {possible}"
            return
        version = answer["model_version"]
        assert (answer["space"], version in possible) == (self.name, True), (
            f"{answer['space']} answers by {version}; {self.name} had {possible}"
        )
        checked = 0
        for hit in answer["hits"]:
            content = contents.get(hit["master"]["id"])
            if content is not None and not hit["exact"]:
                expected = 1 - float(self._embed(version, sample) @ self._embed(version, content))
                assert abs(hit["distance"] - expected) < _TOLERANCE, (
                    f"{self.name}: {hit['distance']} is not the distance {expected} of {version}"
                )
                checked += 1
        with self._lock:
            self.answers += 1
            self.distances += checked

    def find_missing(self, client: httpx.Client, sample: bytes, ids: set[str]) -> list[str]:
        """Return a message if a search does not find exactly these masters."""
        data = {"space": self.name, "k": "1000"}
        response = client.post("/search", files={"sample": ("a.jpg", sample)}, data=data)
        if response.status_code == 422 and NO_VERSION in self.timeline.current:
            return []
        found = {hit["master"]["id"] for hit in response.json().get("hits", [])}
        return [] if found == ids else [f"{self.name}: {len(found)} of {len(ids)} are found"]

    def _embed(self, version: str, content: bytes) -> NDArray[np.float32]:
        embedder = self._find_embedder(version)
        key = (embedder.model_version, content)
        if key not in self._vectors:
            rule = embedder.preprocessing
            image = decode_image(io.BytesIO(content), min_side=rule.min_side).image
            self._vectors[key] = embedder.embed(rule.prepare(image)[None])[0]
        return self._vectors[key]
