"""Finds the masters nearest to a sample, and checks each hit against the metadata database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.errors import Conflict
from app.metrics import Metrics
from app.services.collections import Collections
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.vision import Vision
from models.imaging import Box
from storage.filters import Filter, matches
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import Collection, Master

MAX_REACH = 10_000  # maximum of offset + k
MAX_DISTANCE = 2.0  # of two vectors of length 1: they point in opposite directions
_PROBABILITY_PLACES = 4
_DISTANCE_PLACES = 6
_Vector = NDArray[np.float32]


@dataclass(frozen=True)
class SearchOptions:
    """What to search for, and how much to return."""

    collection: str
    k: int = 10  # number of hits
    offset: int = 0  # number of hits to skip
    max_distance: float | None = None  # 0 to 2, inclusive
    filter: Filter | None = None
    box: Box | None = None  # in pixels of the upright sample
    mirror: bool = False  # search with the mirrored sample, too
    min_probability: float | None = None  # 0 to 1; needs a calibrated model


@dataclass(frozen=True)
class Hit:
    """A master that a search found."""

    master: Master
    distance: float  # 0 to 2
    exact: bool  # whether it has the same bytes as the sample
    probability: float | None  # that both show the same thing; None without a calibration


@dataclass(frozen=True)
class SearchResult:
    """Hits, nearest first, and the model version that scored all of them."""

    hits: list[Hit]
    model_version: str


@dataclass(frozen=True)
class Comparison:
    """How alike two images are."""

    distance: float  # 0 to 2
    probability: float | None  # that both show the same thing; None without a calibration
    exact: bool  # whether they have the same bytes
    model_version: str


@dataclass(frozen=True)
class _Query:
    """One search: vectors, and the collection and version that they are compared in."""

    vectors: list[_Vector]  # (512,) each: the sample's, and that of the mirrored sample
    sha256: bytes | None  # None if the sample is only a part of an image
    collection: Collection
    version: str
    options: SearchOptions

    def accepts(self, master: Master) -> bool:
        return self.options.filter is None or matches(self.options.filter, master.attributes)


class Search:
    """Searches collections and compares images. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
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

    def search_by_sample(self, sample: BinaryIO, options: SearchOptions) -> SearchResult:
        """Find the masters nearest to an image.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        collection = self._collections.find_collection(options.collection)
        image = self._vision.decode_image(sample, options.box)
        version = self._models.active_version()
        vectors = [self._vision.embed_image(image, version)]
        if options.mirror:
            vectors.append(self._vision.embed_image(image, version, mirror=True))
        sha256 = None if options.box else sha256_of_file(sample)
        return self._answer(_Query(vectors, sha256, collection, version, options))

    def search_by_master(self, master_id: UUID, options: SearchOptions) -> SearchResult:
        """Find the masters nearest to a master; its stored vector saves the embedding.

        Raises InvalidInput, NotFound, Conflict, Unavailable.
        """
        collection = self._collections.find_collection(options.collection)
        version = self._models.active_version()
        master = self._masters.find_master(master_id)
        if options.box is None and not options.mirror:
            vectors = self._stores.vectors.fetch_vectors(version, [master.id])
            if master.id in vectors:
                vector = vectors[master.id].parts[0].vector
                return self._answer(_Query([vector], master.sha256, collection, version, options))
        return self.search_by_sample(self._masters.read_verified(master), options)

    def compare_images(self, first: BinaryIO, second: BinaryIO) -> Comparison:
        """Return the distance between two images. Raises ImageRejected, Unavailable."""
        version = self._models.active_version()
        if sha256_of_file(first) == sha256_of_file(second):
            self._vision.decode_image(first)
            return Comparison(0.0, self._probability(version, 0.0, exact=True), True, version)
        a, b = (
            self._vision.embed_image(self._vision.decode_image(file), version)
            for file in (first, second)
        )
        distance = round(1.0 - float(a @ b), _DISTANCE_PLACES)
        distance = float(np.clip(distance, 0.0, MAX_DISTANCE))
        probability = self._probability(version, distance, exact=False)
        return Comparison(distance, probability, False, version)

    def _probability(self, version: str, distance: float, *, exact: bool) -> float | None:
        """Return the probability that two images show the same thing; 1 for the same bytes."""
        calibration = self._models.find_embedder(version).calibration
        if calibration is None:
            return None
        return 1.0 if exact else round(calibration.probability(distance), _PROBABILITY_PLACES)

    def _distance_limit(self, version: str, options: SearchOptions) -> float | None:
        """Return the maximum distance of a hit, or None. Raises Conflict."""
        if options.min_probability is None:
            return options.max_distance
        calibration = self._models.find_embedder(version).calibration
        if calibration is None:
            detail = (
                f"The model {version} has no calibration. Leave min_probability out, or change to"
                " a fine-tuned model."
            )
            raise Conflict("not-calibrated", detail)
        # Hits are selected by the probability that the response shows, which is rounded.
        rounding = 0.5 * 10**-_PROBABILITY_PLACES
        limit = calibration.distance(options.min_probability - rounding)
        return min(MAX_DISTANCE if options.max_distance is None else options.max_distance, limit)

    def _answer(self, query: _Query) -> SearchResult:
        options = query.options
        wanted = options.offset + options.k
        exact = self._find_exact_hit(query)
        hits = [exact] if exact else []
        hits += self._find_nearest(query, wanted, skip={hit.master.id for hit in hits})
        self._metrics.searches.inc()
        return SearchResult(hits[options.offset : wanted], query.version)

    def _find_exact_hit(self, query: _Query) -> Hit | None:
        """Return the master with the sample's own bytes, which counts even before it is indexed."""
        if query.sha256 is None:
            return None
        with self._metrics.stage("truth"):
            master = self._stores.metadata.find_by_hash(query.collection.name, query.sha256)
        if master is None or not query.accepts(master):
            return None
        probability = self._probability(query.version, 0.0, exact=True)
        return Hit(master, 0.0, True, probability)

    def _find_nearest(self, query: _Query, wanted: int, skip: set[UUID]) -> list[Hit]:
        """Return up to ``wanted`` live hits.

        The vector store may still have deleted or changed masters, so more are requested until
        enough of them are live or the store has no more.
        """
        limit = self._distance_limit(query.version, query.options)
        if limit is not None and limit < 0:
            return []
        reach = wanted + len(skip)
        while True:
            distances, exhausted = self._search_vectors(query, reach, limit)
            # With two vectors, only the nearest ``reach`` ids are sure to have their true distance.
            candidates = (id_ for id_ in distances if id_ not in skip)
            order = sorted(candidates, key=lambda id_: (distances[id_], id_))[:reach]
            hits = self._load_hits(query, order, distances)
            if len(hits) >= wanted or exhausted:
                return hits[:wanted]
            reach *= 2

    def _search_vectors(
        self, query: _Query, reach: int, limit: float | None
    ) -> tuple[dict[UUID, float], bool]:
        """Return the smallest distance per master, and whether the store has no further hits."""
        distances: dict[UUID, float] = {}
        exhausted = True
        for vector in query.vectors:
            with self._metrics.stage("vector_search"):
                hits = self._stores.vectors.search(
                    query.version, query.collection.id, vector, reach, query.options.filter, limit
                )
            exhausted = exhausted and len(hits) < reach
            for hit in hits:
                known = distances.get(hit.master_id, MAX_DISTANCE)
                distances[hit.master_id] = min(hit.distance, known)
        return distances, exhausted

    def _load_hits(
        self, query: _Query, order: Sequence[UUID], distances: dict[UUID, float]
    ) -> list[Hit]:
        """Return the hits whose masters are live and still match the filter, in that order."""
        with self._metrics.stage("truth"):
            masters = self._stores.metadata.find_masters(query.collection.id, order)
        hits = []
        for id_ in order:
            master = masters.get(id_)
            if master is not None and query.accepts(master):
                distance = distances[id_]
                probability = self._probability(query.version, distance, exact=False)
                hits.append(Hit(master, distance, False, probability))
        return hits
