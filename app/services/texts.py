"""Turns the text of a search into a vector of the space that is searched."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.metrics import Metrics
from app.services.encoder_files import EncoderFiles, is_weights
from app.services.loaded_models import LoadedModels
from app.services.vision import check_finite
from models.errors import EncoderInvalid
from models.text_encoder import TextNotUnderstood
from models.weights_file import WeightsFile
from storage.errors import ObjectMissing
from storage.protocols import Stores
from storage.unicode_text import normalize_text

if TYPE_CHECKING:
    from models.words.look_words import LookWords

MAX_LENGTH = 500  # characters
TextSupport = Literal["encoder", "built-in"]


class EmbeddedText(NamedTuple):
    """The vector of a text, and how near the text is to what the built-in words know."""

    vector: NDArray[np.float32]  # (dimension,), of length 1
    understood: float | None  # 0 to 1; None if the space's own encoder read it


class Texts:
    """Embeds texts with the encoder of a space, or with the built-in words.

    The built-in words work for every version of the shipped ResNet. Loading them takes .6 s and
    105 MB, so they are loaded for the first text.
    """

    def __init__(
        self, stores: Stores, models: LoadedModels, metrics: Metrics, load: Callable[[], LookWords]
    ) -> None:
        """``load`` loads the built-in words."""
        self._files = EncoderFiles(stores.objects)
        self._models = models
        self._metrics = metrics
        self._load = load
        self._lock = Lock()
        self._words: LookWords | None = None
        self._directions: dict[str, NDArray[np.float32]] = {}

    def find_support(self, version: str) -> TextSupport | None:
        """Return what embeds texts for a version. Raises Unavailable if it is not loaded."""
        if self._models.find_embedder(version).text is not None:
            return "encoder"
        return "built-in" if is_weights(version) else None

    def embed_text(self, text: str, version: str) -> EmbeddedText:
        """Return the vector of a text in the space of a version.

        Raises InvalidInput, Unavailable, StoreUnavailable.
        """
        cleaned = clean_text(text)
        encoder = self._models.find_embedder(version).text
        with self._metrics.stage("embed_text"):
            try:
                if encoder is not None:
                    vector = encoder.embed_text(cleaned)
                    check_finite(vector, version)
                    return EmbeddedText(vector, None)
                words, directions = self._load_words(version)
                vector, understood = words.embed_along(cleaned, directions)
                return EmbeddedText(vector, round(understood, 4))
            except TextNotUnderstood as error:
                raise InvalidInput("text-not-understood", str(error)) from None

    def _load_words(self, version: str) -> tuple[LookWords, NDArray[np.float32]]:
        """Return the built-in words, and their classes' directions in the space of a version."""
        with self._lock:
            if version not in self._directions:
                weights = self._read_weights(version)
                if self._words is None:
                    self._words = self._load()
                directions = self._words.find_directions(weights)
                live = self._models.live_versions
                kept = {each: found for each, found in self._directions.items() if each in live}
                self._directions = {**kept, version: directions}
            assert self._words is not None  # noqa: S101
            return self._words, self._directions[version]

    def _read_weights(self, version: str) -> WeightsFile:
        """Return the weights of a version. Raises InvalidInput if it has none."""
        if is_weights(version):
            try:
                with self._files.open(version) as encoder:
                    if isinstance(encoder, WeightsFile):
                        return encoder
            except (ObjectMissing, EncoderInvalid):
                pass
        detail = (
            f"The encoder {version} cannot embed text. Search with an image, or in a space whose"
            " encoder can: `lookalike spaces create words --encoder FILE` makes one."
        )
        raise InvalidInput("text-not-supported", detail)


def clean_text(text: str) -> str:
    """Return a text in Unicode's form NFC with single spaces only. Raises InvalidInput."""
    cleaned = normalize_text(" ".join(text.split()))
    if not 1 <= len(cleaned) <= MAX_LENGTH:
        detail = f"The text has {len(cleaned)} characters. Send between 1 and {MAX_LENGTH}."
        raise InvalidInput("invalid-text", detail)
    if any(unicodedata.category(each) in ("Cc", "Cs") for each in cleaned):
        detail = "The text contains control characters. Send words only."
        raise InvalidInput("invalid-text", detail)
    return cleaned
