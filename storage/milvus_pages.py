"""The pages in which a search in Milvus reads hits, because one answer has a bounded number."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.records import VectorHit

_ROUNDING = 1e-6  # of a distance
_LEAST_SIMILARITY = -1.5  # less than any, in spite of rounding


@dataclass(frozen=True)
class SearchQuery:
    """What one search compares with, in which collection of Milvus, and what it returns."""

    name: str
    chosen: str  # the filter expression
    vector: NDArray[np.float32]
    output: tuple[str, ...]


@dataclass(frozen=True)
class SearchPage:
    """A part of the hits: the nearest ``most`` of those that meet a further condition.

    ``after`` is the distance of the last hit of the page before; this one begins there.
    """

    condition: str
    most: int
    after: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The parameters that make Milvus begin behind a hit, in terms of cosine similarity."""
        if self.after is None:
            return {}
        return {"radius": _LEAST_SIMILARITY, "range_filter": 1.0 - self.after}

    def next(self, hits: list[VectorHit]) -> SearchPage:
        """Return the page after this one, which had these hits.

        Pages overlap by the hits with the last distance. If there are more of them than fit on a
        page, the others are skipped.
        """
        last = hits[-1].distance - _ROUNDING
        if self.after is not None and last <= self.after:
            last = self.after + 2 * _ROUNDING
        return replace(self, after=last)


def merge_pages(
    plan: list[SearchPage], answers: list[list[VectorHit]]
) -> tuple[list[VectorHit], float]:
    """Return the masters in the answers, and the distance up to which no master is missing."""
    cut = [
        answer[-1].distance
        for page, answer in zip(plan, answers, strict=True)
        if len(answer) >= page.most
    ]
    found = [hit for answer in answers for hit in answer]
    return nearest_parts(found), min(cut, default=math.inf)


def nearest_parts(hits: list[VectorHit]) -> list[VectorHit]:
    """Return the hit of each master by its nearest part, nearest first, ties ordered by id."""
    nearest: dict[UUID, VectorHit] = {}
    for hit in sorted(hits, key=lambda hit: (hit.distance, hit.master_id, hit.part)):
        nearest.setdefault(hit.master_id, hit)
    return list(nearest.values())
