"""Finds the masters nearest to one view of a query, in one space or in several at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from app.services.queries import Aspect, Query, View
from storage.protocols import VectorStore
from storage.records import VectorRecord

MAX_DISTANCE = 2.0  # of two vectors of length 1: they point in opposite directions
_DISTANCE_PLACES = 6
_LESS = 0.5 * 10**-_DISTANCE_PLACES
_FARTHEST = 2048  # hits in each space, after which the nearest of those seen are taken
_BATCH = 500  # vectors read at once


@dataclass(frozen=True)
class Nearest:
    """Masters and their distances; beyond ``horizon`` there may be others that were not seen."""

    distances: dict[UUID, float]
    horizon: float = math.inf


def search_view(
    vectors: VectorStore, query: Query, view: View, reach: int, limit: float | None
) -> Nearest:
    """Return the masters nearest to a view, at least ``reach`` if there are so many.

    With several spaces there may be fewer whose distance is certain. Raises StoreUnavailable.
    """
    if len(view) == 1:
        return _search_aspect(vectors, query, view[0], reach, limit)
    return _search_together(vectors, query, view, reach)


def _search_aspect(
    vectors: VectorStore, query: Query, aspect: Aspect, reach: int, limit: float | None = None
) -> Nearest:
    options = query.options
    hits = vectors.search(
        aspect.version, query.collection.id, aspect.vector, reach, options.filter, limit
    )
    horizon = hits[-1].distance if len(hits) >= reach else math.inf
    return Nearest({hit.master_id: hit.distance for hit in hits}, horizon)


def _search_together(vectors: VectorStore, query: Query, view: View, reach: int) -> Nearest:
    """Search in several spaces, and compare every master that one of them finds in all of them.

    A master that none finds is farther away than the last hit in each space, so its distance is at
    least the weighted sum of theirs (the threshold algorithm: Fagin, Lotem and Naor, 2003).
    Masters without a vector in one of the spaces are left out.
    """
    found = [_search_aspect(vectors, query, aspect, reach) for aspect in view]
    horizons = [nearest.horizon for nearest in found]
    horizon = sum(each.share * far for each, far in zip(view, horizons, strict=True))
    if reach >= _FARTHEST:
        horizon = math.inf
    elif horizon < math.inf:  # one that was not seen may have this distance, and a smaller id
        horizon = round(horizon, _DISTANCE_PLACES) - _LESS
    ids = dict.fromkeys(id_ for nearest in found for id_ in nearest.distances)
    distances = dict.fromkeys(ids, 0.0)
    for aspect, nearest in zip(view, found, strict=True):
        known = nearest.distances
        known |= compare(vectors, aspect, [id_ for id_ in ids if id_ not in known])
        distances = {
            id_: distance + aspect.share * known[id_]
            for id_, distance in distances.items()
            if id_ in known
        }
    rounded = {id_: round(each, _DISTANCE_PLACES) for id_, each in distances.items()}
    return Nearest({id_: each for id_, each in rounded.items() if each <= horizon}, horizon)


def compare_view(vectors: VectorStore, view: View, ids: list[UUID]) -> dict[UUID, float]:
    """Return the distances of those masters that have a vector in every space of the view."""
    if len(view) == 1:
        return compare(vectors, view[0], ids)
    distances = dict.fromkeys(ids, 0.0)
    for aspect in view:
        found = compare(vectors, aspect, list(distances))
        distances = {id_: distances[id_] + aspect.share * each for id_, each in found.items()}
    return {id_: round(each, _DISTANCE_PLACES) for id_, each in distances.items()}


def compare(vectors: VectorStore, aspect: Aspect, ids: list[UUID]) -> dict[UUID, float]:
    """Return the distances of those masters that have a vector of the aspect's version."""
    distances: dict[UUID, float] = {}
    for start in range(0, len(ids), _BATCH):
        stored = vectors.fetch_vectors(aspect.version, ids[start : start + _BATCH])
        distances |= {id_: _find_distance(record, aspect) for id_, record in stored.items()}
    return distances


def nearest_of(views: Iterable[dict[UUID, float]]) -> dict[UUID, float]:
    """Return the smallest distance of each master."""
    distances: dict[UUID, float] = {}
    for view in views:
        for id_, distance in view.items():
            distances[id_] = min(distance, distances.get(id_, MAX_DISTANCE))
    return distances


def _find_distance(record: VectorRecord, aspect: Aspect) -> float:
    """Return the cosine distance of the nearest of a master's parts."""
    parts = np.stack([part.vector for part in record.parts]).astype(np.float64)
    distance = round(
        1.0 - float((parts @ aspect.vector.astype(np.float64)).max()), _DISTANCE_PLACES
    )
    return min(max(distance, 0.0), MAX_DISTANCE)
