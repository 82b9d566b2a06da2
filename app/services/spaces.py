"""Lists the spaces, and what a search can do in each."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import Unavailable
from app.services.loaded_models import LoadedModels
from app.services.texts import Texts, TextSupport
from storage.protocols import Stores
from storage.records import ModelState


@dataclass(frozen=True)
class SpaceSummary:
    """A space, and what its active version can do.

    ``version`` is None while the first one is being built. ``dimension`` and ``text`` are None if
    this process has not loaded the version; ``text`` is also None if the space takes no text.
    """

    name: str
    version: str | None
    dimension: int | None
    text: TextSupport | None
    calibrated: bool


class Spaces:
    """Lists the spaces of an installation."""

    def __init__(self, stores: Stores, models: LoadedModels, texts: Texts) -> None:
        self._stores = stores
        self._models = models
        self._texts = texts

    def list_spaces(self) -> list[SpaceSummary]:
        """Return all spaces, `look` first. Raises StoreUnavailable."""
        active: dict[str, str | None] = {}
        for model in self._stores.registry.list_models():
            if model.state is ModelState.ACTIVE:
                active[model.space] = model.id
            elif model.state is not ModelState.RETIRED:
                active.setdefault(model.space, None)
        return [self._summarize(space, version) for space, version in active.items()]

    def _summarize(self, space: str, version: str | None) -> SpaceSummary:
        try:
            embedder = self._models.find_embedder(version)
        except Unavailable:
            return SpaceSummary(space, version, None, None, False)
        text = self._texts.find_support(embedder.model_version)
        calibrated = embedder.calibration is not None
        return SpaceSummary(space, version, embedder.dimension, text, calibrated)
