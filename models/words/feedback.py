"""Pseudo-relevance feedback: moves a query towards its own first hits (Rocchio 1971)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HITS = 10  # the first hits that feedback uses
_WEIGHT = 2.0  # of the hits' mean, against 1 for the query
_LEAST_CONFIDENCE = 0.6


def refine_query(
    query: NDArray[np.float32], hits: NDArray[np.float32], confidence: float
) -> NDArray[np.float32]:
    """Return the query moved towards its hits, or unchanged where that would mislead.

    ``query`` is ``(d,)`` float32 of length 1, ``hits`` ``(n, d)`` float32 the vectors of its
    nearest masters, nearest first; the first ``HITS`` count. ``confidence`` from 0 to 1 says how
    well the query was understood. A query that is understood badly finds the wrong images, and
    feedback would only make the result more of the same.
    """
    if confidence < _LEAST_CONFIDENCE or len(hits) == 0:
        return query
    refined = query + _WEIGHT * hits[:HITS].mean(axis=0)
    moved: NDArray[np.float32] = (refined / np.linalg.norm(refined)).astype(np.float32)
    return moved
