"""Searches with samples, masters and texts, and compares images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO
from uuid import UUID

import numpy as np

from app.errors import InvalidInput
from app.services.collapsing import Duplicates
from app.services.collections import Collections
from app.services.examples import EmbeddedExample, Examples, Scope, combine_examples
from app.services.facets import Facets
from app.services.grouping import Group
from app.services.loaded_models import LoadedModels
from app.services.queries import (
    MAX_REACH,
    MAX_VIEWS,
    Aspect,
    Example,
    FileExample,
    HitPosition,
    MasterExample,
    Query,
    SearchOptions,
    TextExample,
    Vector,
)
from app.services.ranking import Hit, Ranking
from app.services.results import FindResults, check_results, position_behind
from app.services.search_names import name_search
from app.services.stored_vectors import StoredVectors
from app.services.view_search import MAX_DISTANCE
from app.services.vision import Vision
from models.decoding.turns import Purpose
from models.words.feedback import HITS, refine_query
from storage.hashing import sha256_of_file
from storage.records import Collection, VectorPart

_DISTANCE_PLACES = 6
_OTHER_SEARCH = (
    "cursor belongs to another search, or the model has changed since. Pass the next_cursor of the"
    " previous page with the same examples and options, or begin again without it."
)


@dataclass(frozen=True)
class SearchResult:
    """Hits, nearest first, and the model versions that scored all of them.

    ``versions`` has the version of each space, that of the first example first. ``understood`` is
    that of the text that was understood least; None without a text. ``warnings`` are those of the
    files: ``models.imaging.TRUNCATED`` or nothing. ``parts``, if the options ask for it, has the
    part of each hit that is nearest to the examples of each space. ``groups`` and ``duplicates``
    are those of ``Results``; ``next_page`` is where the next page begins.
    """

    hits: list[Hit]
    versions: dict[str, str]
    understood: float | None
    warnings: tuple[str, ...] = ()
    parts: dict[UUID, dict[str, VectorPart]] | None = None
    groups: dict[UUID, Group] | None = None
    duplicates: Duplicates | None = None
    facets: Facets | None = None
    next_page: HitPosition | None = None

    @property
    def space(self) -> str:
        """The space of the first example."""
        return next(iter(self.versions))

    @property
    def model_version(self) -> str:
        """The version of that space."""
        return self.versions[self.space]


@dataclass(frozen=True)
class Comparison:
    """How alike two images are."""

    distance: float  # 0 to 2
    probability: float | None  # that both show the same thing; None without a calibration
    exact: bool  # whether they have the same bytes
    model_version: str
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` if that is true of one of them


@dataclass(frozen=True)
class EmbeddedVector:
    """The vector of an image or a text in a space."""

    space: str
    version: str
    vector: Vector  # (dimension,), of length 1
    understood: float | None  # as in ``EmbeddedText``; None for an image
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` or nothing


class Search:
    """Searches collections and compares images. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        models: LoadedModels,
        collections: Collections,
        vision: Vision,
        examples: Examples,
        ranking: Ranking,
        results: FindResults,
        vectors: StoredVectors,
    ) -> None:
        self._models = models
        self._collections = collections
        self._vision = vision
        self._examples = examples
        self._ranking = ranking
        self._results = results
        self._vectors = vectors

    def search(self, examples: Sequence[Example], options: SearchOptions) -> SearchResult:
        """Find the masters nearest to the examples.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        _check_options(examples, options)
        collection = self._collections.find_collection(options.collection)
        scope = self._examples.find_scope(examples, options.space)
        embedded = [
            self._examples.embed_example(
                each, scope.versions[scope.space_of(each)], options.orientations
            )
            for each in examples
        ]
        if options.feedback:
            embedded = [self._follow_first_hits(each, collection, options) for each in embedded]
        query = combine_examples(embedded, collection, options)
        after = options.results.after
        if after is not None and after.search != name_search(embedded, query):
            raise InvalidInput("invalid-cursor", _OTHER_SEARCH)
        found = self._results.find(query)
        parts = None
        if options.include:
            parts = self._vectors.find_nearest_parts(found.ids, scope.versions, query.views)
        next_page = None
        if found.last is not None:
            next_page = position_behind(found.last, options, name_search(embedded, query))
        return SearchResult(
            found.hits,
            scope.versions,
            understood=min(
                (each.understood for each in embedded if each.understood is not None), default=None
            ),
            warnings=tuple(dict.fromkeys(name for each in embedded for name in each.warnings)),
            parts=parts,
            groups=found.groups,
            duplicates=found.duplicates,
            facets=found.facets,
            next_page=next_page,
        )

    def _follow_first_hits(
        self, embedded: EmbeddedExample, collection: Collection, options: SearchOptions
    ) -> EmbeddedExample:
        """Move a text's vector towards those of its own first hits, if it was understood."""
        if not isinstance(embedded.example, TextExample):
            return embedded
        version, vector = embedded.version, embedded.vectors[0]
        plain = SearchOptions(options.collection, filter=options.filter)
        query = Query([(Aspect(version, vector, 1.0),)], collection, plain)
        hits = self._ranking.find_nearest(query, HITS)
        parts = self._vectors.find_nearest_parts(
            [hit.master.id for hit in hits], {"": version}, query.views
        )
        found = [part.vector for parts_of in parts.values() for part in parts_of.values()]
        confidence = 1.0 if embedded.understood is None else embedded.understood
        moved = refine_query(vector, np.array(found), confidence)
        return replace(embedded, vectors=(moved,))

    def embed(self, examples: Sequence[Example], space: str | None) -> list[EmbeddedVector]:
        """Return the vectors of examples, which are not stored.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        scope = self._examples.find_scope(examples, space)
        return [self._embed_lone(each, scope.space_of(each), scope) for each in examples]

    def _embed_lone(self, example: Example, space: str, scope: Scope) -> EmbeddedVector:
        found = self._examples.embed_example(example, scope.versions[space])
        return EmbeddedVector(
            space, found.version, found.vectors[0], found.understood, found.warnings
        )

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


def _check_options(examples: Sequence[Example], options: SearchOptions) -> None:
    if options.offset + options.k > MAX_REACH:
        raise InvalidInput("invalid-request", f"offset + k is at most {MAX_REACH}.")
    images = sum(isinstance(each, FileExample | MasterExample) for each in examples)
    _check_views(images, options)
    check_results(options)
    if options.feedback and not any(isinstance(each, TextExample) for each in examples):
        detail = "feedback needs a text. Add one, or leave feedback out."
        raise InvalidInput("invalid-request", detail)


def _check_views(images: int, options: SearchOptions) -> None:
    for name, wanted in (("mirror", options.mirror), ("turns", options.turns)):
        if wanted and not images:
            detail = f"{name} needs an image. Add one, or leave {name} out."
            raise InvalidInput("invalid-request", detail)
    each = len(options.orientations)
    if images * each > MAX_VIEWS:
        detail = (
            f"A search has at most {MAX_VIEWS} views, and here each of {images} images has {each}."
            f" Send at most {MAX_VIEWS // each} images, or leave turns out."
        )
        raise InvalidInput("invalid-request", detail)
