"""Vector records of two collections, for the tests of vector stores, and a way to empty one."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from storage.metadata import new_id
from storage.records import Box4, VectorPart, VectorRecord, whole_image
from storage.vectors_milvus import MilvusVectorStore

VERSION = "model-1"
SHOP, ARCHIVE = UUID(int=1), UUID(int=2)


def unit(seed: int, dimension: int = 512) -> NDArray[np.float32]:
    """Return a random vector ``(dimension,)`` of length 1."""
    vector = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def record(seed: int, collection: UUID = SHOP, **attributes: object) -> VectorRecord:
    """Return a record with a new id and a random vector."""
    return VectorRecord(new_id(), collection, whole_image(unit(seed)), attributes, 1)


def near(vector: NDArray[np.float32], distance: float) -> NDArray[np.float32]:
    """Return a vector of length 1 at a cosine distance from another one."""
    other = np.roll(vector, 1)
    other = other - float(other @ vector) * vector
    other /= np.linalg.norm(other)
    cosine = 1.0 - distance
    return np.asarray(cosine * vector + (1.0 - cosine**2) ** 0.5 * other, dtype=np.float32)


def several(
    *vectors: NDArray[np.float32], boxes: tuple[Box4 | None, ...] = (), **attributes: object
) -> VectorRecord:
    """Return a record with a new id and a part for each vector."""
    boxes = boxes or (None,) * len(vectors)
    parts = tuple(VectorPart(vector, box) for vector, box in zip(vectors, boxes, strict=True))
    return VectorRecord(new_id(), SHOP, parts, attributes, 1)


def empty_milvus(store: MilvusVectorStore, kept: str) -> None:
    """Delete every vector of the version ``kept``, and drop the other versions.

    Milvus takes seconds to load a new collection for searches, so tests share a loaded one.
    """
    for version in store.versions():
        if version != kept:
            store.drop_version(version)
    if kept in store.versions():
        name = store._name(kept)
        store._connection.find_collection(name)
        store._delete_keys(name, [row["id"] for row in store._query(name, 'id != ""', ["id"])])
