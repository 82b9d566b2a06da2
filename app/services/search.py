"""Searches with samples, masters and texts, and compares images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from app.services.collections import Collections
from app.services.examples import Examples, combine_examples
from app.services.loaded_models import LoadedModels
from app.services.queries import Example, SearchOptions
from app.services.ranking import Hit, Ranking
from app.services.view_search import MAX_DISTANCE
from app.services.vision import Vision
from models.decoding.turns import Purpose
from storage.hashing import sha256_of_file

_DISTANCE_PLACES = 6


@dataclass(frozen=True)
class SearchResult:
    """Hits, nearest first, and the model versions that scored all of them.

    ``versions`` has the version of each space, that of the first example first. ``understood`` is
    that of the text that was understood least; None without a text. ``warnings`` are those of the
    files: ``models.imaging.TRUNCATED`` or nothing.
    """

    hits: list[Hit]
    versions: dict[str, str]
    understood: float | None
    warnings: tuple[str, ...] = ()

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


class Search:
    """Searches collections and compares images. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        models: LoadedModels,
        collections: Collections,
        vision: Vision,
        examples: Examples,
        ranking: Ranking,
    ) -> None:
        self._models = models
        self._collections = collections
        self._vision = vision
        self._examples = examples
        self._ranking = ranking

    def search(self, examples: Sequence[Example], options: SearchOptions) -> SearchResult:
        """Find the masters nearest to the examples.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        collection = self._collections.find_collection(options.collection)
        target = self._examples.find_target(collection, examples, options)
        embedded = self._examples.embed_examples(examples, target, options)
        hits = self._ranking.find_hits(combine_examples(embedded, target, options))
        understood = [each.understood for each in embedded if each.understood is not None]
        warnings = dict.fromkeys(name for each in embedded for name in each.warnings)
        return SearchResult(hits, target.versions, min(understood, default=None), tuple(warnings))

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
