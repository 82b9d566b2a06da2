"""Fits the linear projection from 2048 features to 512 numbers: learned whitening, then PCA."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluate import Vectors
from models.weights_file import EMBEDDING_DIM, FEATURE_DIM

# The constants were chosen on held-out classes; see models/weights/README.md, "What was tried".
_WHITENING = 1.0  # how far unwanted directions are whitened: 0 is plain PCA, 1 full whitening
_EVEN = 1.0  # share of all directions in the unwanted scatter; limits the whitening of unseen ones
_FLATTENING = 0.4  # how far the retained directions are whitened, 0 to 1
_LENGTH = 10.0  # of a projected vector before normalisation; scales the effective learning rate


def fit_projection(
    views: list[Vectors], classes: NDArray[np.int64], head: Vectors | None = None
) -> tuple[Vectors, Vectors]:
    """Fit the projection (Mikolajczyk & Matas 2007; Radenović et al. 2018) to pooled features.

    ``views`` are ``(n, 2048)`` float32 features of the same images: first unaltered, then altered.
    ``classes`` is ``(n,)``. The directions in which images of one class differ, or views of one
    image, are whitened. ``head`` ``(outputs, 2048)`` is the base network's own projection or
    classifier: it names directions that separate subjects which these images do not show. Without
    it, PCA retains only directions of these images.

    Returns the weight ``(512, 2048)`` and the bias ``(512,)``, both float32.
    """
    features = views[0].astype(np.float64)
    mean = features.mean(axis=0)
    means = np.stack([features[classes == n].mean(axis=0) for n in np.unique(classes)])
    within = features - means[np.unique(classes, return_inverse=True)[1]]
    unwanted = _normalise_trace(within.T @ within)
    if views[1:]:
        altered = np.concatenate([features - view for view in views[1:]])
        unwanted += _normalise_trace(altered.T @ altered)
    unwanted = _normalise_trace(unwanted) + np.eye(FEATURE_DIM) * _EVEN / FEATURE_DIM
    variances, axes = np.linalg.eigh(unwanted)
    whitening = (axes * variances ** (-_WHITENING / 2)) @ axes.T
    wanted = _normalise_trace(_compute_scatter(features))
    if head is not None:
        wanted = wanted + _normalise_trace(_compute_scatter(head.astype(np.float64)))
    spread, axes = np.linalg.eigh(whitening @ wanted @ whitening)
    largest = np.argsort(-spread)[:EMBEDDING_DIM]
    spread = np.maximum(spread[largest], spread[largest[0]] * 1e-6)
    weight = (axes[:, largest] * spread ** (-_FLATTENING / 2)).T @ whitening
    weight *= _LENGTH / np.sqrt((((features - mean) @ weight.T) ** 2).sum(axis=1).mean())
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def _normalise_trace(scatter: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale a scatter matrix to a trace of 1, unless it is zero."""
    return scatter / max(float(np.trace(scatter)), 1e-12)


def _compute_scatter(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    product: NDArray[np.float64] = centred.T @ centred
    return product
