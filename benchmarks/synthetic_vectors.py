"""Synthetic vectors that resemble embeddings, and their exact nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIMENSION = 512  # numbers in an embedding of this project's network


class ClusteredVectors:
    """Unit vectors distributed like the embeddings of photographs.

    They lie in clusters, and their variances fall off with a power of the rank. Compared at equal
    numbers with this network's embeddings of Caltech-101 and GroceryStoreDataset (in brackets):
    cosine of a vector to its nearest .73 (.70, .80) and to its tenth nearest .64 (.56, .54); local
    intrinsic dimension 9 (12, 11); share of the first principal component 9 % (5 %, 7 %); cosine of
    two vectors of a cluster .61 (.49, .41). At 100,000 vectors the local dimension is 16, so the
    search is not easier than among real embeddings.
    """

    CLUSTERS, SPREAD = 2000, 0.8

    def __init__(self) -> None:
        rank = np.arange(1, DIMENSION + 1, dtype=np.float32)
        between, within = rank**-0.4, rank**-0.5
        self._noise = within / np.linalg.norm(within) * self.SPREAD
        rng = np.random.default_rng(0)
        self._centres = (
            rng.standard_normal((self.CLUSTERS, DIMENSION), dtype=np.float32)
            * between
            / np.linalg.norm(between)
        )

    def draw(self, count: int, seed: int) -> NDArray[np.float32]:
        """Draw ``(count, 512)`` float32 with rows of length 1; equal seeds give equal vectors."""
        rng = np.random.default_rng((1, seed))
        vectors = rng.standard_normal((count, DIMENSION), dtype=np.float32) * self._noise
        vectors += self._centres[rng.integers(0, self.CLUSTERS, count)]
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


class ExactNeighbours:
    """The exact nearest neighbours of some queries among all vectors added so far.

    ``numbers`` ``(queries, nearest)`` are the numbers of these neighbours, in no particular order.
    """

    def __init__(self, queries: NDArray[np.float32], nearest: int) -> None:
        self._queries, self._nearest = queries, nearest
        self._similarities = np.full((len(queries), nearest), -np.inf, dtype=np.float32)
        self.numbers = np.full((len(queries), nearest), -1)

    def add(self, first: int, vectors: NDArray[np.float32]) -> None:
        """Add ``(n, 512)`` vectors, which are numbered consecutively from ``first``."""
        similarities = np.hstack([self._similarities, self._queries @ vectors.T])
        chosen = np.argpartition(-similarities, self._nearest, axis=1)[:, : self._nearest]
        numbers = np.broadcast_to(
            np.arange(first, first + len(vectors)), (len(self._queries), len(vectors))
        )
        self.numbers = np.take_along_axis(np.hstack([self.numbers, numbers]), chosen, axis=1)
        self._similarities = np.take_along_axis(similarities, chosen, axis=1)
