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
from app.services.texts import Texts
from app.services.vision import DecodedImage, Source, Vision
from models.decoding.turns import Purpose
from models.imaging import Box
from models.orientations import UPRIGHT, Orientation
from storage.hashing import sha256_of_file
from storage.protocols import Stores
from storage.records import LOOK, WORDS, Collection

_SMALLEST, _LARGEST = 1e-12, 1e12  # of the largest number of a vector that is given


@dataclass(frozen=True)
class EmbeddedExample:
    """An example, its vectors, and what the answer says about it."""

    example: Example
    version: str
    vectors: tuple[Vector, ...]  # one for each view, or one for all of them
    sha256: bytes | None = None  # of a whole image
    understood: float | None = None  # that of ``EmbeddedText``
    warnings: tuple[str, ...] = ()  # ``models.imaging.TRUNCATED`` or nothing

    @property
    def is_image(self) -> bool:
        return isinstance(self.example, FileExample | MasterExample)


@dataclass(frozen=True)
class Scope:
    """The spaces of some examples with their active versions, in the examples' order."""

    versions: dict[str, str]
    default: str  # the space of an example that names none

    def space_of(self, example: Example) -> str:
        return example.space or self.default


class Examples:
    """Embeds examples. Every method may raise StoreUnavailable."""

    def __init__(
        self, stores: Stores, models: LoadedModels, masters: Masters, vision: Vision, texts: Texts
    ) -> None:
        self._stores = stores
        self._models = models
        self._masters = masters
        self._vision = vision
        self._texts = texts

    def find_scope(self, examples: Sequence[Example], space: str | None) -> Scope:
        """Find the spaces; ``space`` is that of examples that name none.

        Raises InvalidInput, Unavailable.
        """
        if not 1 <= len(examples) <= MAX_EXAMPLES:
            detail = f"Send 1 to {MAX_EXAMPLES} examples instead of {len(examples)}."
            raise InvalidInput("invalid-request", detail)
        default = space or self._default_space(examples)
        spaces = dict.fromkeys(example.space or default for example in examples)
        return Scope({space: self._models.active_version(space) for space in spaces}, default)

    def _default_space(self, examples: Sequence[Example]) -> str:
        has_text = any(isinstance(example, TextExample) for example in examples)
        return WORDS if has_text and self._stores.registry.find_active(WORDS) else LOOK

    def embed_example(
        self, example: Example, version: str, orientations: Sequence[Orientation] = (UPRIGHT,)
    ) -> EmbeddedExample:
        """Embed an example. An image has a vector for each orientation.

        Raises InvalidInput, NotFound, Conflict, ImageRejected, Unavailable.
        """
        match example:
            case FileExample():
                return self._embed_file(example, version, orientations)
            case MasterExample():
                return self._embed_master(example, version, orientations)
            case TextExample():
                text = self._texts.embed_text(example.text, version)
                return EmbeddedExample(example, version, (text.vector,), understood=text.understood)
            case VectorExample():
                return self._check_vector(example, version)
        raise TypeError(f"{type(example).__name__} is not an example")

    def _embed_file(
        self, example: FileExample, version: str, orientations: Sequence[Orientation]
    ) -> EmbeddedExample:
        sha256 = None if example.box else sha256_of_file(example.file)
        image = self._decode(example.file, example.box, version, orientations)
        vectors = self._embed_views(image, version, orientations)
        return EmbeddedExample(example, version, vectors, sha256, warnings=image.warnings)

    def _embed_master(
        self, example: MasterExample, version: str, orientations: Sequence[Orientation]
    ) -> EmbeddedExample:
        """Use a master's stored vector, or embed its original if there is none that fits."""
        master = self._masters.find_master(example.master_id)
        if example.box is None and tuple(orientations) == (UPRIGHT,):
            stored = self._stores.vectors.fetch_vectors(version, [master.id])
            if master.id in stored:
                vector = stored[master.id].parts[0].vector
                return EmbeddedExample(example, version, (vector,), master.sha256)
        original = partial(self._masters.read_verified, master)
        image = self._decode(original, example.box, version, orientations)
        vectors = self._embed_views(image, version, orientations)
        sha256 = None if example.box else master.sha256
        return EmbeddedExample(example, version, vectors, sha256)

    def _decode(
        self, source: Source, box: Box | None, version: str, orientations: Sequence[Orientation]
    ) -> DecodedImage:
        turns = any(each.turns for each in orientations)
        return self._vision.decode_image(
            source, Purpose.SEARCH, box, versions=[version], turns=turns
        )

    def _embed_views(
        self, image: DecodedImage, version: str, orientations: Sequence[Orientation]
    ) -> tuple[Vector, ...]:
        """Embed one view after the other: a batch takes as long, and lets no other image in."""
        return tuple(self._vision.embed_image(image, version, each) for each in orientations)

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
        return EmbeddedExample(example, version, (unit,))


def combine_examples(
    examples: Sequence[EmbeddedExample], collection: Collection, options: SearchOptions
) -> Query:
    """Combine examples into a query with a view for each of their vectors. Raises InvalidInput."""
    count = max(len(each.vectors) for each in examples)
    lone = examples[0] if len(examples) == 1 and examples[0].example.weight > 0 else None
    return Query(
        [_combine_view(examples, number) for number in range(count)],
        collection,
        options,
        sha256=lone.sha256 if lone else None,
        calibrated=lone.version if lone and lone.is_image else None,
    )


def _combine_view(examples: Sequence[EmbeddedExample], number: int) -> View:
    """Return the view with this number; an example with a single vector has it in every view."""
    chosen = [
        WeightedVector(
            each.version, each.vectors[min(number, len(each.vectors) - 1)], each.example.weight
        )
        for each in examples
    ]
    view = make_view(chosen)
    if view is None:
        detail = "The examples cancel each other out, so nothing is left. Change their weights."
        raise InvalidInput("examples-cancel", detail)
    return view
