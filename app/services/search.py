"""Searches with samples, masters and texts, and compares images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO
from uuid import UUID

import numpy as np

from app.errors import InvalidInput
from app.services.collections import Collections
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.ranking import MAX_DISTANCE, Hit, Query, Ranking, SearchOptions, Vector
from app.services.texts import EmbeddedText, Texts
from app.services.vision import Source, Vision
from models.decoding.turns import Purpose
from models.words.feedback import HITS, refine_query
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import LOOK, WORDS, Collection, Master

DEFAULT_TEXT_WEIGHT = 0.5
_DISTANCE_PLACES = 6


@dataclass(frozen=True)
class SearchResult:
    """Hits, nearest first, and the space and model version that scored all of them.

    ``understood`` is that of ``EmbeddedText``; None without a text. ``warnings`` are those of the
    sample: ``models.imaging.TRUNCATED`` or nothing.
    """

    hits: list[Hit]
    model_version: str
    space: str
    understood: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """How alike two images are."""

    distance: float  # 0 to 2
    probability: float | None  # that both show the same thing; None without a calibration
    exact: bool  # whether they have the same bytes
    model_version: str
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` if that is true of one of them


@dataclass(frozen=True)
class _Scope:
    """What a search compares in, and the vector of its text there."""

    options: SearchOptions
    collection: Collection
    space: str
    version: str
    text: EmbeddedText | None


class Search:
    """Searches collections and compares images. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
        collections: Collections,
        masters: Masters,
        vision: Vision,
        texts: Texts,
        ranking: Ranking,
    ) -> None:
        self._stores = stores
        self._models = models
        self._collections = collections
        self._masters = masters
        self._vision = vision
        self._texts = texts
        self._ranking = ranking

    def search_by_text(self, options: SearchOptions) -> SearchResult:
        """Find the masters nearest to a text.

        Raises InvalidInput, NotFound, Conflict, Unavailable.
        """
        if options.box or options.mirror or options.text_weight is not None:
            detail = (
                "box, mirror and text_weight need an image. Send a sample too, or leave them out."
            )
            raise InvalidInput("invalid-request", detail)
        return self._answer(self._open_scope(options), [], None)

    def search_by_sample(self, sample: BinaryIO, options: SearchOptions) -> SearchResult:
        """Find the masters nearest to an image, or to an image and a text.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        return self._search_by_sample(sample, sha256_of_file(sample), self._open_scope(options))

    def search_by_master(self, master_id: UUID, options: SearchOptions) -> SearchResult:
        """Find the masters nearest to a master; its stored vector saves the embedding.

        Raises InvalidInput, NotFound, Conflict, Unavailable.
        """
        scope = self._open_scope(options)
        master = self._masters.find_master(master_id)
        vector = self._fetch_vector(master, scope)
        if vector is not None:
            return self._answer(scope, [vector], master.sha256)
        original = partial(self._masters.read_verified, master)
        found = self._search_by_sample(original, master.sha256, scope)
        return replace(found, warnings=())  # they were given when it was uploaded

    def compare_images(self, first: BinaryIO, second: BinaryIO) -> Comparison:
        """Return the distance between two images. Raises ImageRejected, Unavailable."""
        version = self._models.active_version()
        find_probability = self._ranking.find_probability
        if sha256_of_file(first) == sha256_of_file(second):
            image = self._vision.decode_image(first, Purpose.SEARCH, versions=[])
            probability = find_probability(version, 0.0, exact=True)
            return Comparison(0.0, probability, True, version, image.warnings)
        images = [
            self._vision.decode_image(file, Purpose.SEARCH, versions=[version])
            for file in (first, second)
        ]
        a, b = (self._vision.embed_image(image, version) for image in images)
        distance = round(1.0 - float(a @ b), _DISTANCE_PLACES)
        distance = float(np.clip(distance, 0.0, MAX_DISTANCE))
        probability = find_probability(version, distance, exact=False)
        warnings = tuple({name: None for image in images for name in image.warnings})
        return Comparison(distance, probability, False, version, warnings)

    def _open_scope(self, options: SearchOptions) -> _Scope:
        """Find the collection, the space and its active version, and embed the text."""
        collection = self._collections.find_collection(options.collection)
        space = options.space or self._default_space(options.text)
        version = self._models.active_version(space)
        text = None
        if options.text is not None:
            text = self._texts.embed_text(options.text, version)
            if options.feedback:
                text = self._follow_first_hits(text, collection, version, options)
        elif options.feedback or options.text_weight is not None:
            detail = "feedback and text_weight need a text. Send a text too, or leave them out."
            raise InvalidInput("invalid-request", detail)
        return _Scope(options, collection, space, version, text)

    def _default_space(self, text: str | None) -> str:
        has_words = text is not None and self._stores.registry.find_active(WORDS) is not None
        return WORDS if has_words else LOOK

    def _follow_first_hits(
        self, text: EmbeddedText, collection: Collection, version: str, options: SearchOptions
    ) -> EmbeddedText:
        """Move a text's vector towards those of its own first hits, if it was understood."""
        plain = SearchOptions(options.collection, filter=options.filter, text=options.text)
        query = Query([text.vector], None, collection, version, plain)
        hits = self._ranking.find_nearest(query, HITS)
        stored = self._stores.vectors.fetch_vectors(version, [hit.master.id for hit in hits])
        found = [
            max((part.vector for part in stored[hit.master.id].parts), key=text.vector.dot)
            for hit in hits
            if hit.master.id in stored
        ]
        confidence = 1.0 if text.understood is None else text.understood
        moved = refine_query(text.vector, np.array(found), confidence)
        return EmbeddedText(moved, text.understood)

    def _fetch_vector(self, master: Master, scope: _Scope) -> Vector | None:
        """Return a master's stored vector, or None if it is missing or cannot be used."""
        if scope.options.box is not None or scope.options.mirror:
            return None
        vectors = self._stores.vectors.fetch_vectors(scope.version, [master.id])
        return vectors[master.id].parts[0].vector if master.id in vectors else None

    def _search_by_sample(self, sample: Source, sha256: bytes, scope: _Scope) -> SearchResult:
        options, version = scope.options, scope.version
        image = self._vision.decode_image(sample, Purpose.SEARCH, options.box, versions=[version])
        vectors = [self._vision.embed_image(image, version)]
        if options.mirror:
            vectors.append(self._vision.embed_image(image, version, mirror=True))
        answer = self._answer(scope, vectors, None if options.box else sha256)
        return replace(answer, warnings=image.warnings)

    def _answer(self, scope: _Scope, images: list[Vector], sha256: bytes | None) -> SearchResult:
        """Search with the vectors of an image, with that of the text, or with both."""
        options, text = scope.options, scope.text
        if text is not None:
            weight = DEFAULT_TEXT_WEIGHT if options.text_weight is None else options.text_weight
            images = [_mix(image, text.vector, weight) for image in images] or [text.vector]
            sha256 = None  # what is nearest to both need not be the sample itself
        query = Query(images, sha256, scope.collection, scope.version, options)
        hits = self._ranking.find_hits(query)
        understood = None if text is None else text.understood
        return SearchResult(hits, scope.version, scope.space, understood)


def _mix(image: Vector, text: Vector, weight: float) -> Vector:
    """Return the unit vector of (1 - weight) x image + weight x text."""
    mixed = (1 - weight) * image + weight * text
    length = float(np.linalg.norm(mixed))
    if length < 1e-6:  # they point in opposite directions
        return image
    unit: Vector = (mixed / length).astype(np.float32)
    return unit
