"""Compares a master with those nearest to it: do two images show one photograph?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from app.errors import Busy
from app.logs import log
from app.services.originals import OriginalDamaged, read_original
from app.services.vision import LOCAL_FEATURES, Source, Vision
from models.decoding.turns import Purpose
from models.imaging import ImageRejected
from models.local_features import (
    FEATURES,
    FEWEST_COMMON,
    FORMAT,
    count_common_features,
    extract_features,
)
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import DuplicatePair, DuplicateScan, Stores
from storage.records import Master

MAX_DISTANCE = 0.65  # in `look`; most altered copies of a photograph are nearer than this
NEAREST = 10  # masters with which each image is compared
_DISTANCE_PLACES = 6


class OutOfTime(Exception):
    """The time is over before a master was compared; the features read so far are kept."""


@dataclass
class Comparisons:
    """What comparisons have found and nobody has saved yet."""

    version: str  # of the vectors
    checked: list[UUID] = field(default_factory=list)
    pairs: list[DuplicatePair] = field(default_factory=list)
    read: dict[UUID, bytes] = field(default_factory=dict)  # features that no store had


class Comparer:
    """Compares masters by their vectors first, then by local features."""

    def __init__(self, stores: Stores, vision: Vision) -> None:
        self._stores = stores
        self._vision = vision

    def compare(
        self,
        scan: DuplicateScan,
        collection_id: UUID,
        master_id: UUID,
        found: Comparisons,
        until: float,
    ) -> None:
        """Compare a master of that collection with its nearest ones, and add to ``found``.

        A master that is gone, or has no vector, adds nothing. Raises OutOfTime once the monotonic
        clock has passed ``until``; StoreUnavailable, Busy.
        """
        distances = self._find_nearest(scan, collection_id, master_id, found.version)
        if distances is None:
            return
        metadata = self._stores.metadata
        other_id = _other_side(scan, collection_id)
        others = metadata.find_masters(other_id, list(distances))
        own = metadata.find_masters(collection_id, [master_id])
        if master_id not in own:
            return
        if others:
            self._add_pairs(own[master_id], others, distances, found, until)
        found.checked.append(master_id)

    def _find_nearest(
        self, scan: DuplicateScan, collection_id: UUID, master_id: UUID, version: str
    ) -> dict[UUID, float] | None:
        """Return the distances of the nearest masters, or None if the master has no vector."""
        vectors = self._stores.vectors
        record = vectors.fetch_vectors(version, [master_id]).get(master_id)
        if record is None:
            return None
        hits = vectors.search(
            version,
            _other_side(scan, collection_id),
            record.parts[0].vector,
            NEAREST + 1,  # the master itself may be among them
            None,
            scan.max_distance,
        )
        nearest = [hit for hit in hits if hit.master_id != master_id][:NEAREST]
        return {hit.master_id: round(hit.distance, _DISTANCE_PLACES) for hit in nearest}

    def _add_pairs(
        self,
        master: Master,
        others: Mapping[UUID, Master],
        distances: Mapping[UUID, float],
        found: Comparisons,
        until: float,
    ) -> None:
        features = self._find_features([master, *others.values()], found, until)
        for other in others.values():
            first, second = sorted((master.id, other.id))
            if master.sha256 == other.sha256:
                common = FEATURES  # also of a picture that has none
            else:
                common = count_common_features(features[first], features[second])
            if common >= FEWEST_COMMON:
                pair = DuplicatePair((first, second), common, max(0.0, distances[other.id]))
                found.pairs.append(pair)

    def _find_features(
        self, masters: Iterable[Master], found: Comparisons, until: float
    ) -> dict[UUID, bytes]:
        """Return the features of masters; those that are not stored are read from their files."""
        wanted = {master.id: master for master in masters}
        missing = [id_ for id_ in wanted if id_ not in found.read]
        known = found.read | self._stores.metadata.find_features(missing, FORMAT)
        for id_, master in wanted.items():
            if id_ in known:
                continue
            if time.monotonic() > until:
                raise OutOfTime
            known[id_] = found.read[id_] = self._read_features(master)
        return known

    def _read_features(self, master: Master) -> bytes:
        """Read the features from the file; none if it cannot be read. Raises StoreUnavailable."""
        source = partial(read_original, self._stores.objects, master)
        try:
            return read_features(self._vision, source, Purpose.INDEXING)
        except (StoreUnavailable, Busy):
            raise
        except (ObjectMissing, OriginalDamaged, ImageRejected) as error:
            log.warning("a file cannot be compared", master=str(master.id), reason=str(error))
        except Exception:  # it would fail again and again
            log.exception("a file cannot be compared", master=str(master.id))
        return b""


def read_features(vision: Vision, source: Source, purpose: Purpose) -> bytes:
    """Return the local features of an image. Raises what ``Vision.decode_inputs`` raises."""
    decoded = vision.decode_inputs(source, (LOCAL_FEATURES,), purpose=purpose)
    return extract_features(decoded.inputs[LOCAL_FEATURES])


def _other_side(scan: DuplicateScan, collection_id: UUID) -> UUID:
    """Return the collection in which the masters of the given one are looked for."""
    is_first = collection_id == scan.collection_id
    return scan.other_id if is_first else scan.collection_id
