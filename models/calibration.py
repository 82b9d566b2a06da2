"""Calibration: maps a distance to the probability that two images show the same thing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

HITS = 10  # top hits per query that the calibration describes, as many as people look at
_BINS = 10
_QUERIES = 1024  # per block, which limits the memory that the similarities take
_EXPONENT_LIMIT = 700.0  # math.exp overflows above 709


@dataclass(frozen=True)
class Calibration:
    """Platt scaling (Platt 1999): ``p = 1 / (1 + exp(slope * distance - intercept))``.

    ``distance`` is the cosine distance of two embeddings, 0 to 2.
    """

    intercept: float
    slope: float

    def probability(self, distance: float) -> float:
        """Return the probability, 0 to 1, that two images at this distance show the same thing."""
        exponent = self.slope * distance - self.intercept
        return 1.0 / (1.0 + math.exp(min(_EXPONENT_LIMIT, max(-_EXPONENT_LIMIT, exponent))))

    def distance(self, probability: float) -> float:
        """Return the distance at which the probability has this value.

        It is infinite for a probability of 0 or less, and minus infinity for 1 or more.
        """
        if probability <= 0:
            return math.inf
        if probability >= 1:
            return -math.inf
        return (self.intercept - math.log(probability / (1 - probability))) / self.slope

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Parse what ``as_json`` returned. Raises ValueError, TypeError or KeyError otherwise."""
        given = json.loads(text)
        calibration = cls(float(given["intercept"]), float(given["slope"]))
        finite = math.isfinite(calibration.intercept) and math.isfinite(calibration.slope)
        if not finite or calibration.slope <= 0:
            raise ValueError("a calibration needs finite numbers and a slope above 0")
        return calibration


@dataclass(frozen=True)
class LabelledHits:
    """The top hits of many queries.

    ``distances`` is ``(n,)`` float64 cosine distances; ``same`` is ``(n,)`` bool, true where the
    hit has the class of its query.
    """

    distances: NDArray[np.float64]
    same: NDArray[np.bool_]

    @classmethod
    def collect(cls, vectors: NDArray[np.float32], labels: list[str]) -> LabelledHits:
        """Use each image as a query twice: among all others, and among other classes only.

        So half of the queries have no match in the collection, as in real use. ``vectors`` is
        ``(n, 512)`` float32 with rows of length 1. At most ten hits of each query are collected.
        """
        classes = np.unique(labels, return_inverse=True)[1]
        distances: tuple[list[NDArray[np.float64]], ...] = ([], [])  # all images, other classes
        matches: tuple[list[NDArray[np.bool_]], ...] = ([], [])
        for start in range(0, len(vectors), _QUERIES):
            queries = np.arange(start, min(start + _QUERIES, len(vectors)))
            similarity = (vectors[queries] @ vectors.T).astype(np.float64)
            similarity[queries - start, queries] = -np.inf
            same = classes[queries, None] == classes[None, :]
            for half, scores in enumerate((similarity, np.where(same, -np.inf, similarity))):
                top = np.argsort(-scores, axis=1, kind="stable")[:, :HITS]
                top_scores = np.take_along_axis(scores, top, axis=1)
                allowed = np.isfinite(top_scores)
                distances[half].append(1.0 - top_scores[allowed])
                matches[half].append(np.take_along_axis(same, top, axis=1)[allowed])
        return cls(
            np.concatenate([*distances[0], *distances[1]]),
            np.concatenate([*matches[0], *matches[1]]),
        )

    def reliability(self, calibration: Calibration) -> list[tuple[float, float, int]]:
        """Group the hits into ten bins of equal width by their probability.

        Returns for each bin that is not empty: the mean probability, the share of hits of the same
        class, and the number of hits.
        """
        probabilities = np.array([calibration.probability(each) for each in self.distances])
        bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
        rows = []
        for number in range(_BINS):
            chosen = bins == number
            if chosen.any():
                mean, share = probabilities[chosen].mean(), self.same[chosen].mean()
                rows.append((float(mean), float(share), int(chosen.sum())))
        return rows

    def expected_error(self, calibration: Calibration) -> float:
        """Compute the expected calibration error over ten bins (Guo et al. 2017, eq. 3)."""
        total = sum(
            abs(predicted - actual) * count
            for predicted, actual, count in self.reliability(calibration)
        )
        return total / len(self.distances)


def fit_calibration(hits: LabelledHits) -> Calibration:
    """Fit by maximum likelihood (logistic regression).

    If all hits are of the same class as their query, or none is, a hit of each kind is added at
    distance 0 and 2, so that the fit exists.
    """
    from sklearn.linear_model import LogisticRegression

    distances, same = hits.distances, hits.same
    if same.all() or not same.any():
        same = np.append(same, [True, False])
        distances = np.append(distances, [0.0, 2.0])
    fitted = LogisticRegression(C=1e4)
    fitted.fit(distances[:, None], same)
    return Calibration(float(fitted.intercept_[0]), max(1e-3, -float(fitted.coef_[0, 0])))
