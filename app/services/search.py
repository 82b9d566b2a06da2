"""Finds the masters nearest to a sample, each hit checked against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.errors import Conflict
from app.metrics import Metrics
from app.services.collections import Collections
from app.services.loaded_models import Models
from app.services.masters import Masters
from app.services.vision import Vision
from models.imaging import Box
from storage.filters import Filter, matches
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import Collection, Master

MAX_REACH = 10_000  # offset + k at most
_PLACES = 4  # of a probability
_Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """``k`` hits behind the first ``offset``; ``max_distance`` inclusive, 0..2; ``box`` in pixels of the upright sample.

    ``min_probability``, 0..1, of showing the same thing: asks for a calibrated model.
    """

    collection: str
    k: int = 10
    offset: int = 0
    max_distance: float | None = None
    filter: Filter | None = None
    box: Box | None = None
    mirror: bool = False
    min_probability: float | None = None


@dataclass(frozen=True)
class Hit:
    master: Master
    distance: float
    exact: bool
    probability: float | None  # None by a model without calibration


@dataclass(frozen=True)
class Answer:
    hits: list[Hit]
    model_version: str


@dataclass(frozen=True)
class Compared:
    """Two images: ``exact`` if they are the same bytes."""

    distance: float
    probability: float | None
    exact: bool
    model_version: str


@dataclass(frozen=True)
class _Query:
    vectors: list[_Vector]  # one, and one more with a mirror
    sha256: bytes | None  # None where the sample is only a part of an image


class Search:
    def __init__(
        self,
        stores: Stores,
        models: Models,
        collections: Collections,
        masters: Masters,
        vision: Vision,
        metrics: Metrics,
    ) -> None:
        self._stores = stores
        self._models = models
        self._collections = collections
        self._masters = masters
        self._vision = vision
        self._metrics = metrics

    def by_sample(self, sample: BinaryIO, options: Options) -> Answer:
        """Raises NotFound, ImageRejected, Unavailable, StoreUnavailable."""
        collection = self._collections.find(options.collection)
        picture = self._vision.read(sample, options.box)
        version = self._models.active()
        vectors = [self._vision.embed(picture, version)]
        if options.mirror:
            vectors.append(self._vision.embed(picture, version, mirror=True))
        return self._answer(
            _Query(vectors, None if options.box else sha256_of_file(sample)),
            collection,
            version,
            options,
        )

    def by_master(self, master_id: UUID, options: Options) -> Answer:
        """Like ``by_sample`` with the master's own image, whose stored vector saves the embedding."""
        collection = self._collections.find(options.collection)
        version = self._models.active()
        master = self._masters.find(master_id)
        whole = options.box is None and not options.mirror
        known = (
            self._stores.vectors.fetch_vectors(version, [master.id]).get(master.id)
            if whole
            else None
        )
        if known is not None:
            return self._answer(_Query([known.vector], master.sha256), collection, version, options)
        return self.by_sample(self._masters.original(master), options)

    def distance(self, first: BinaryIO, second: BinaryIO) -> Compared:
        """How far apart two images are."""
        version = self._models.active()
        if sha256_of_file(first) == sha256_of_file(second):
            self._vision.read(first)
            return Compared(0.0, self._probability(version, 0.0, exact=True), True, version)
        a, b = (self._vision.embed(self._vision.read(file), version) for file in (first, second))
        distance = float(np.clip(round(1.0 - float(a @ b), 6), 0.0, 2.0))
        return Compared(distance, self._probability(version, distance, exact=False), False, version)

    def _probability(self, version: str, distance: float, *, exact: bool) -> float | None:
        """That two images show the same thing; the same bytes do."""
        calibration = self._models.embedder(version).calibration
        if calibration is None:
            return None
        return 1.0 if exact else round(calibration.probability(distance), _PLACES)

    def _reach(self, version: str, options: Options) -> float | None:
        """The distance that nothing may be farther than. Raises Conflict."""
        if options.min_probability is None:
            return options.max_distance
        calibration = self._models.embedder(version).calibration
        if calibration is None:
            raise Conflict(
                "not-calibrated",
                f"The model {version} has no calibration: leave min_probability out, or change to a fine-tuned model.",
            )
        least = (
            options.min_probability - 0.5 * 10**-_PLACES
        )  # a hit is told from its probability as it is shown
        return min(
            2.0 if options.max_distance is None else options.max_distance,
            calibration.distance(least),
        )

    def _answer(
        self, query: _Query, collection: Collection, version: str, options: Options
    ) -> Answer:
        hits: list[Hit] = []
        with self._metrics.stage("truth"):
            exact = (
                self._stores.metadata.find_by_hash(collection.name, query.sha256)
                if query.sha256
                else None
            )
        if exact is not None and (
            options.filter is None or matches(options.filter, exact.attributes)
        ):
            hits.append(Hit(exact, 0.0, True, self._probability(version, 0.0, exact=True)))
        wanted = options.offset + options.k
        hits += self._nearest(
            query, collection, version, options, wanted, skip={hit.master.id for hit in hits}
        )
        self._metrics.searches.inc()
        return Answer(hits[options.offset : wanted], version)

    def _nearest(
        self,
        query: _Query,
        collection: Collection,
        version: str,
        options: Options,
        wanted: int,
        skip: set[UUID],
    ) -> list[Hit]:
        """Ask the vector store for more until enough of its hits stand in the truth or it has no more."""
        farthest = self._reach(version, options)
        if farthest is not None and farthest < 0:
            return []
        reach = wanted + len(skip)
        while True:
            distances: dict[UUID, float] = {}
            exhausted = True
            for vector in query.vectors:
                with self._metrics.stage("vector_search"):
                    found = self._stores.vectors.search(
                        version, collection.id, vector, reach, options.filter, farthest
                    )
                exhausted = exhausted and len(found) < reach
                for hit in found:
                    distances[hit.master_id] = min(hit.distance, distances.get(hit.master_id, 2.0))
            # with two vectors, only the nearest ``reach`` of the union are sure to have their better distance
            order = sorted(
                (id_ for id_ in distances if id_ not in skip), key=lambda id_: (distances[id_], id_)
            )[:reach]
            with self._metrics.stage("truth"):
                masters = self._stores.metadata.find_masters(collection.id, order)
            hits = [
                Hit(
                    master,
                    distances[id_],
                    False,
                    self._probability(version, distances[id_], exact=False),
                )
                for id_ in order
                if (master := masters.get(id_)) is not None
                and (options.filter is None or matches(options.filter, master.attributes))
            ]
            if len(hits) >= wanted or exhausted:
                return hits[:wanted]
            reach *= 2
