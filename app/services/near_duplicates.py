"""Finds the masters that are nearly identical to an image that is being uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from app.errors import Busy, Conflict, NotFound, Unavailable
from app.logs import log
from app.services.collections import Collections
from app.services.duplicate_comparison import MAX_DISTANCE, NEAREST, read_features
from app.services.loaded_models import LoadedModels
from app.services.masters import Masters
from app.services.queries import Aspect, Query, SearchOptions
from app.services.ranking import Hit, Ranking
from app.services.vision import DecodedImage, Vision
from models.decoding.turns import Purpose
from models.imaging import ImageRejected
from models.local_features import FEWEST_COMMON, FORMAT, count_common_features, extract_features
from storage.protocols.duplicates import FeatureStore
from storage.records import Master


@dataclass(frozen=True)
class NearCheck:
    """What an upload does if a master is nearly identical: it is rejected, or stored with a report.

    Only masters within ``max_distance``, 0 to 2, are compared.
    """

    rejects: bool
    max_distance: float = MAX_DISTANCE


@dataclass(frozen=True)
class NearDuplicate:
    """A master that is nearly identical to an image."""

    master: Master
    distance: float
    common: int  # local features that both have

    def describe(self) -> dict[str, Any]:
        """Return the JSON of it."""
        return {"id": str(self.master.id), "distance": self.distance, "common": self.common}


class NearDuplicates:
    """Compares images with the masters of a collection. Its methods may raise StoreUnavailable."""

    def __init__(
        self,
        features: FeatureStore,
        models: LoadedModels,
        collections: Collections,
        masters: Masters,
        vision: Vision,
        ranking: Ranking,
    ) -> None:
        self._features = features
        self._models = models
        self._collections = collections
        self._masters = masters
        self._vision = vision
        self._ranking = ranking

    def find_near_duplicates(
        self, image: DecodedImage, collection: str, max_distance: float
    ) -> list[NearDuplicate]:
        """Return the near duplicates of an image in a collection, nearest first.

        The image must have been decoded for all versions and for local features. The masters
        nearest to it in `look`, NEAREST at most, are compared; those whose originals cannot be read
        are left out. Raises Conflict and Unavailable.
        """
        nearest = self._find_nearest(image, collection, max_distance)
        if not nearest or image.features_input is None:
            return []
        features = extract_features(image.features_input)
        if not features:
            return []
        known = self._find_features([hit.master for hit in nearest])
        counted = [
            NearDuplicate(
                hit.master,
                hit.distance,
                count_common_features(features, known.get(hit.master.id, b"")),
            )
            for hit in nearest
        ]
        return [each for each in counted if each.common >= FEWEST_COMMON]

    def _find_nearest(self, image: DecodedImage, name: str, max_distance: float) -> list[Hit]:
        try:
            collection = self._collections.find_collection(name)
        except NotFound:  # the upload will create it
            return []
        version = self._models.active_version()
        if version not in image.inputs:
            detail = "The active model has changed meanwhile. Retry in a second."
            raise Unavailable("model-not-loaded", detail)
        vector = self._vision.embed_image(image, version)
        options = SearchOptions(name, max_distance=max_distance)
        query = Query([(Aspect(version, vector, 1.0),)], collection, options)
        return self._ranking.find_nearest(query, NEAREST)

    def _find_features(self, masters: list[Master]) -> dict[UUID, bytes]:
        """Return the local features of masters by id. Those that are not stored yet are made."""
        known = self._features.find_features([master.id for master in masters], FORMAT)
        made = {
            master.id: features
            for master in masters
            if master.id not in known and (features := self._extract_features(master)) is not None
        }
        if made:
            self._features.save_features(made, FORMAT)
        return known | made

    def _extract_features(self, master: Master) -> bytes | None:
        """Return the local features of a master's original; None if it cannot be read."""
        original = partial(self._masters.read_verified, master)
        try:
            return read_features(self._vision, original, Purpose.UPLOAD)
        except Busy:
            raise
        except (ImageRejected, NotFound, Unavailable) as error:
            log.warning("a master is not compared", master=str(master.id), reason=str(error))
            return None


def near_duplicate_error(found: list[NearDuplicate]) -> Conflict:
    """Return the error of an upload that is rejected because of near duplicates."""
    count = len(found)
    masters = "a master that is" if count == 1 else f"{count} masters that are"
    error = Conflict(
        "near-duplicate",
        f"The collection has {masters} nearly identical to this image; near_duplicates has the"
        f" {'id' if count == 1 else 'ids'}. Nothing was stored. To store the image nevertheless,"
        " send it with on_near_duplicate=store.",
    )
    error.members = {"near_duplicates": [each.describe() for each in found]}
    return error
