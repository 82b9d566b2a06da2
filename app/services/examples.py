"""Turns the examples of a search into the vectors that it compares with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from app.errors import InvalidInput
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.queries import (
    MAX_EXAMPLES,
    MAX_REACH,
    Aspect,
    Example,
    FileExample,
    MasterExample,
    Query,
    SearchOptions,
    TextExample,
    Vector,
    VectorExample,
    View,
    WeightedVector,
    make_view,
)
from app.services.ranking import Ranking
from app.services.texts import EmbeddedText, Texts
from app.services.vision import DecodedImage, Vision
from models.decoding.turns import Purpose
from models.words.feedback import HITS, refine_query
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import LOOK, WORDS, Collection

_SMALLEST, _LARGEST = 1e-12, 1e12  # of the largest number of a vector that is given


@dataclass(frozen=True)
class EmbeddedExample:
    """The vectors of an example, and what the answer says about it."""

    weight: float
    version: str
    vectors: tuple[Vector, ...]  # one for each view, or one for all of them
    is_image: bool = False
    sha256: bytes | None = None  # of a whole image
    understood: float | None = None  # that of ``EmbeddedText``
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` or nothing


@dataclass(frozen=True)
class Target:
    """What a search compares in, and with which versions: one per space, in the examples' order."""

    collection: Collection
    versions: dict[str, str]
    default: str  # the space of an example that names none


class Examples:
    """Embeds examples and combines them. Every method may raise StoreUnavailable."""

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
        masters: Masters,
        vision: Vision,
        texts: Texts,
        ranking: Ranking,
    ) -> None:
        self._stores = stores
        self._models = models
        self._masters = masters
        self._vision = vision
        self._texts = texts
        self._ranking = ranking

    def find_target(
        self, collection: Collection, examples: Sequence[Example], options: SearchOptions
    ) -> Target:
        """Find the active versions of the spaces. Raises InvalidInput, Unavailable."""
        _check_examples(examples, options)
        default = options.space or self._default_space(examples)
        spaces = dict.fromkeys(example.space or default for example in examples)
        versions = {space: self._models.active_version(space) for space in spaces}
        return Target(collection, versions, default)

    def _default_space(self, examples: Sequence[Example]) -> str:
        has_text = any(isinstance(example, TextExample) for example in examples)
        return WORDS if has_text and self._stores.registry.find_active(WORDS) else LOOK

    def embed_examples(
        self, examples: Sequence[Example], target: Target, options: SearchOptions
    ) -> list[EmbeddedExample]:
        """Embed the examples.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        return [self._embed(example, target, options) for example in examples]

    def _embed(self, example: Example, target: Target, options: SearchOptions) -> EmbeddedExample:
        version = target.versions[example.space or target.default]
        match example:
            case FileExample():
                return self._embed_file(example, version, options)
            case MasterExample():
                return self._embed_master(example, version, options)
            case TextExample():
                return self._embed_text(example, version, target, options)
            case VectorExample():
                return self._check_vector(example, version)
        raise TypeError(f"{type(example).__name__} is not an example")

    def _embed_file(
        self, example: FileExample, version: str, options: SearchOptions
    ) -> EmbeddedExample:
        image = self._vision.decode_image(
            example.file, Purpose.SEARCH, example.box, versions=[version]
        )
        sha256 = None if example.box else sha256_of_file(example.file)
        vectors = self._embed_views(image, version, options)
        return EmbeddedExample(
            example.weight, version, vectors, True, sha256, warnings=image.warnings
        )

    def _embed_master(
        self, example: MasterExample, version: str, options: SearchOptions
    ) -> EmbeddedExample:
        """Use a master's stored vector, or embed its original if there is none that fits."""
        master = self._masters.find_master(example.master_id)
        if example.box is None and not options.mirror:
            stored = self._stores.vectors.fetch_vectors(version, [master.id])
            if master.id in stored:
                vector = stored[master.id].parts[0].vector
                return EmbeddedExample(example.weight, version, (vector,), True, master.sha256)
        original = partial(self._masters.read_verified, master)
        image = self._vision.decode_image(original, Purpose.SEARCH, example.box, versions=[version])
        sha256 = None if example.box else master.sha256
        vectors = self._embed_views(image, version, options)
        return EmbeddedExample(example.weight, version, vectors, True, sha256)

    def _embed_views(
        self, image: DecodedImage, version: str, options: SearchOptions
    ) -> tuple[Vector, ...]:
        plain = self._vision.embed_image(image, version)
        if not options.mirror:
            return (plain,)
        return plain, self._vision.embed_image(image, version, mirror=True)

    def _embed_text(
        self, example: TextExample, version: str, target: Target, options: SearchOptions
    ) -> EmbeddedExample:
        text = self._texts.embed_text(example.text, version)
        if options.feedback:
            text = self._follow_first_hits(text, version, target, options)
        return EmbeddedExample(example.weight, version, (text.vector,), understood=text.understood)

    def _follow_first_hits(
        self, text: EmbeddedText, version: str, target: Target, options: SearchOptions
    ) -> EmbeddedText:
        """Move a text's vector towards those of its own first hits, if it was understood."""
        plain = SearchOptions(options.collection, filter=options.filter)
        query = Query([(Aspect(version, text.vector, 1.0),)], target.collection, plain)
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

    def _check_vector(self, example: VectorExample, version: str) -> EmbeddedExample:
        dimension = self._models.find_embedder(version).dimension
        vector = np.array(example.vector, dtype=np.float64)
        if len(vector) != dimension:
            detail = (
                f"The vector has {len(vector)} numbers, and those of {version} have {dimension}."
                " POST /embed gives one that fits."
            )
            raise InvalidInput("invalid-vector", detail)
        largest = float(np.abs(vector).max(initial=0.0))
        if not _SMALLEST <= largest <= _LARGEST:
            detail = (
                f"The largest number of a vector is between {_SMALLEST:g} and {_LARGEST:g}, with or"
                f" without a minus; here it is {largest:g}."
            )
            raise InvalidInput("invalid-vector", detail)
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        return EmbeddedExample(example.weight, version, (unit,))


def combine_examples(
    examples: Sequence[EmbeddedExample], target: Target, options: SearchOptions
) -> Query:
    """Combine examples into a query with a view for each of their vectors. Raises InvalidInput."""
    views = [_combine_view(examples, number) for number in range(2 if options.mirror else 1)]
    lone = examples[0] if len(examples) == 1 and examples[0].weight > 0 else None
    return Query(
        views,
        target.collection,
        options,
        sha256=lone.sha256 if lone else None,
        calibrated=lone.version if lone and lone.is_image else None,
    )


def _combine_view(examples: Sequence[EmbeddedExample], number: int) -> View:
    """Return the view with this number; an example with a single vector has it in every view."""
    chosen = [
        WeightedVector(each.version, each.vectors[min(number, len(each.vectors) - 1)], each.weight)
        for each in examples
    ]
    view = make_view(chosen)
    if view is None:
        detail = "The examples cancel each other out, so nothing is left. Change their weights."
        raise InvalidInput("examples-cancel", detail)
    return view


def _check_examples(examples: Sequence[Example], options: SearchOptions) -> None:
    if options.offset + options.k > MAX_REACH:
        raise InvalidInput("invalid-request", f"offset + k is at most {MAX_REACH}.")
    if not 1 <= len(examples) <= MAX_EXAMPLES:
        detail = f"A search takes 1 to {MAX_EXAMPLES} examples; this one has {len(examples)}."
        raise InvalidInput("invalid-request", detail)
    if options.mirror and not any(
        isinstance(each, FileExample | MasterExample) for each in examples
    ):
        detail = "mirror needs an image. Add one, or leave mirror out."
        raise InvalidInput("invalid-request", detail)
    if options.feedback and not any(isinstance(each, TextExample) for each in examples):
        detail = "feedback needs a text. Add one, or leave feedback out."
        raise InvalidInput("invalid-request", detail)
