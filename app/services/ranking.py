"""Ranks masters by their distance from a query, and checks each against the metadata database."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from app.errors import Conflict
from app.metrics import Metrics
from app.services.loaded_models import LoadedModels
from app.services.queries import HitPosition, Query
from app.services.view_search import MAX_DISTANCE, compare_view, nearest_of, search_view
from storage.protocols import Stores
from storage.records import Master

_PROBABILITY_PLACES = 4
_FAR = 4096  # hits of the vector store among which too few are live
_FEW = 10_000  # live masters that are compared one by one then, at most


@dataclass(frozen=True)
class Hit:
    """A master that a search found."""

    master: Master
    distance: float  # 0 to 2
    exact: bool  # whether it has the same bytes as the sample
    probability: float | None  # that both show the same thing; None if it is not known


class Ranking:
    """Finds the hits of queries. Every method may raise StoreUnavailable."""

    def __init__(self, stores: Stores, models: LoadedModels, metrics: Metrics) -> None:
        self._stores = stores
        self._models = models
        self._metrics = metrics

    def find_hits(self, query: Query, wanted: int) -> list[Hit]:
        """Return the first hits, the exact one before the others. Raises Conflict, Unavailable."""
        exact = self._find_exact_hit(query)
        hits = [exact] if exact else []
        hits += self.find_nearest(query, wanted, skip={hit.master.id for hit in hits})
        return hits[:wanted]

    def find_hits_behind(self, query: Query, after: HitPosition, wanted: int) -> list[Hit]:
        """Return the first hits behind a position. Raises Conflict, Unavailable.

        Milvus computes in float32, and may round a distance otherwise the next time: the hit at the
        position does not come again.
        """
        exact = self._find_exact_hit(query)
        skip = {after.id, exact.master.id} if exact else {after.id}
        return self.find_nearest(query, wanted, skip, after)

    def find_probability(self, version: str, distance: float, *, exact: bool) -> float | None:
        """Return the probability that two images show the same thing; 1 for the same bytes."""
        calibration = self._models.find_embedder(version).calibration
        if calibration is None:
            return None
        return 1.0 if exact else round(calibration.probability(distance), _PROBABILITY_PLACES)

    def _rate_hit(self, query: Query, distance: float, *, exact: bool) -> float | None:
        if query.calibrated is None:
            return None
        return self.find_probability(query.calibrated, distance, exact=exact)

    def _distance_limit(self, query: Query) -> float | None:
        """Return the maximum distance of a hit, or None. Raises Conflict."""
        options = query.options
        if options.min_probability is None:
            return options.max_distance
        if query.calibrated is None:
            detail = (
                "Only a search with a single image has calibrated probabilities. Leave out"
                " min_probability, or everything but the image."
            )
            raise Conflict("not-calibrated", detail)
        calibration = self._models.find_embedder(query.calibrated).calibration
        if calibration is None:
            detail = (
                f"The model {query.calibrated} has no calibration. Leave min_probability out, or"
                " change to a fine-tuned model."
            )
            raise Conflict("not-calibrated", detail)
        # Hits are selected by the probability that the response shows, which is rounded.
        rounding = 0.5 * 10**-_PROBABILITY_PLACES
        limit = calibration.distance(options.min_probability - rounding)
        return min(MAX_DISTANCE if options.max_distance is None else options.max_distance, limit)

    def _find_exact_hit(self, query: Query) -> Hit | None:
        """Return the master with the sample's own bytes, which counts even before it is indexed."""
        if query.sha256 is None:
            return None
        with self._metrics.stage("truth"):
            master = self._stores.metadata.find_by_hash(query.collection.name, query.sha256)
        if master is None or not query.accepts(master):
            return None
        probability = self._rate_hit(query, 0.0, exact=True)
        return Hit(master, 0.0, True, probability)

    def find_nearest(
        self,
        query: Query,
        wanted: int,
        skip: AbstractSet[UUID] = frozenset(),
        after: HitPosition | None = None,
        most: float = math.inf,
    ) -> list[Hit]:
        """Return the first live hits, behind ``after`` and not in ``skip``. Raises Conflict.

        The vector store may still have deleted or changed masters, so more are requested until
        enough of them are live or the store has no more, or about ``most`` were requested.
        """
        limit = self._distance_limit(query)
        if limit is not None and limit < 0:
            return []
        passed = after.passed if after else 0
        behind = (after.distance, after.id) if after else (-math.inf, UUID(int=0))
        reach, compared = passed + wanted + len(skip), False
        while True:
            distances, exhausted = self._search_views(query, reach, limit)
            # With several views, only the nearest ``reach`` ids are sure to have their true
            # distance.
            candidates = (
                id_
                for id_, distance in distances.items()
                if id_ not in skip and (distance, id_) > behind
            )
            order = sorted(candidates, key=lambda id_: (distances[id_], id_))[:reach]
            hits = self._load_hits(query, order, distances)
            if len(hits) >= wanted:
                return hits[:wanted]
            if reach >= passed + _FAR and not compared:
                compared = True
                every = self._compare_all(query, limit)
                if every is not None:
                    found = [hit for hit in every if hit.master.id not in skip]
                    return [hit for hit in found if (hit.distance, hit.master.id) > behind][:wanted]
            if exhausted or reach >= most:
                return hits
            reach *= 2

    def _compare_all(self, query: Query, limit: float | None) -> list[Hit] | None:
        """Compare the query with all live masters that match; None if there are too many.

        This bounds the work if most hits of the vector store are deleted, or excluded by the
        filter. An index of Milvus is approximate, and loses hits behind thousands of others.
        """
        metadata, options = self._stores.metadata, query.options
        with self._metrics.stage("truth"):
            page = metadata.list_masters(query.collection.id, options.filter, _FEW, None)
        if page.next_after is not None:
            return None
        ids = [master.id for master in page.masters]
        with self._metrics.stage("vector_search"):
            distances = nearest_of(
                compare_view(self._stores.vectors, view, ids) for view in query.views
            )
        hits = [
            Hit(
                master,
                distances[master.id],
                False,
                self._rate_hit(query, distances[master.id], exact=False),
            )
            for master in page.masters
            if master.id in distances and (limit is None or distances[master.id] <= limit)
        ]
        return sorted(hits, key=lambda hit: (hit.distance, hit.master.id))

    def _search_views(
        self, query: Query, reach: int, limit: float | None
    ) -> tuple[dict[UUID, float], bool]:
        """Return the smallest distance per master, and whether the store has no further hits."""
        with self._metrics.stage("vector_search"):
            found = [
                search_view(self._stores.vectors, query, view, reach, limit) for view in query.views
            ]
        horizon = min(nearest.horizon for nearest in found)
        distances = nearest_of(nearest.distances for nearest in found)
        within = MAX_DISTANCE if limit is None else limit
        return (
            {id_: each for id_, each in distances.items() if each <= min(horizon, within)},
            math.isinf(horizon),
        )

    def _load_hits(
        self, query: Query, order: Sequence[UUID], distances: dict[UUID, float]
    ) -> list[Hit]:
        """Return the hits whose masters are live and still match the filter, in that order."""
        with self._metrics.stage("truth"):
            masters = self._stores.metadata.find_masters(query.collection.id, order)
        hits = []
        for id_ in order:
            master = masters.get(id_)
            if master is not None and query.accepts(master):
                distance = distances[id_]
                probability = self._rate_hit(query, distance, exact=False)
                hits.append(Hit(master, distance, False, probability))
        return hits
