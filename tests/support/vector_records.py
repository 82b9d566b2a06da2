"""Vector records of two collections, for the tests of vector stores."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.metadata import new_id
from storage.records import VectorRecord

VERSION = "model-1"
SHOP, ARCHIVE = UUID(int=1), UUID(int=2)


def unit(seed: int, dimension: int = 512) -> NDArray[np.float32]:
    """Return a random vector ``(dimension,)`` of length 1."""
    vector = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def record(seed: int, collection: UUID = SHOP, **attributes: object) -> VectorRecord:
    """Return a record with a new id and a random vector."""
    return VectorRecord(new_id(), collection, unit(seed), attributes, 1)
