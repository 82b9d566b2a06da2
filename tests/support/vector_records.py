"""Vector records of two collections, for the tests of vector stores, and a way to empty one."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.metadata import new_id
from storage.records import VectorRecord
from storage.vectors_milvus import MilvusVectorStore

VERSION = "model-1"
SHOP, ARCHIVE = UUID(int=1), UUID(int=2)


def unit(seed: int) -> NDArray[np.float32]:
    """Return a random vector ``(512,)`` of length 1."""
    vector = np.random.default_rng(seed).normal(size=512).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def record(seed: int, collection: UUID = SHOP, **attributes: object) -> VectorRecord:
    """Return a record with a new id and a random vector."""
    return VectorRecord(new_id(), collection, unit(seed), attributes, 1)


def empty_milvus(store: MilvusVectorStore, kept: str) -> None:
    """Delete every vector of the version ``kept``, and drop the other versions.

    Milvus takes seconds to load a new collection for searches, so tests share a loaded one.
    """
    for version in store.versions():
        if version != kept:
            store.drop_version(version)
    for ids in list(store.iterate_ids(kept)):
        store.delete(kept, ids)
