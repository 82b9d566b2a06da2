"""From a distance to the probability that two images show the same thing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models.labelled_images import batches

HITS = 10  # of each query that a calibration is about: what people look at
_BINS = 10
_QUERIES = 1024  # judged at a time: bounds the memory to so many rows of similarities


@dataclass(frozen=True)
class Calibration:
    """p = 1 / (1 + exp(slope * distance - intercept)), with the cosine distance of two embeddings (Platt 1999)."""

    intercept: float
    slope: float

    def probability(self, distance: float) -> float:
        return 1.0 / (
            1.0 + math.exp(min(700.0, max(-700.0, self.slope * distance - self.intercept)))
        )

    def distance(self, probability: float) -> float:
        """At which the probability is that one."""
        if probability <= 0:
            return math.inf
        if probability >= 1:
            return -math.inf
        return (self.intercept - math.log(probability / (1 - probability))) / self.slope

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Raises ValueError, TypeError for what is none."""
        given = json.loads(text)
        calibration = cls(float(given["intercept"]), float(given["slope"]))
        if not (
            math.isfinite(calibration.intercept)
            and math.isfinite(calibration.slope)
            and calibration.slope > 0
        ):
            raise ValueError("a calibration's numbers are finite and its slope is above 0")
        return calibration


@dataclass(frozen=True)
class Judged:
    """Hits of queries: ``(n,)`` cosine distances, and whether each is of the query's class."""

    distances: NDArray[np.float64]
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], labels: list[str]) -> Judged:
        """The first ten hits of each image among the others, and again among those of other classes alone.

        So half of what is looked for is there, and half is not, as when somebody shows what a collection lacks.
        ``vectors`` ``(n, 512)`` of length 1.
        """
        alike = np.unique(labels, return_inverse=True)[1]
        distances: tuple[list[NDArray[np.float64]], ...] = (
            [],
            [],
        )  # among all, and among other classes
        found: tuple[list[NDArray[np.bool_]], ...] = ([], [])
        for some in batches(len(vectors), _QUERIES):
            rows = np.array(some)
            similarity = (vectors[rows] @ vectors.T).astype(np.float64)
            similarity[rows - some.start, rows] = -np.inf
            same = alike[rows, None] == alike[None, :]
            for half, left in enumerate((similarity, np.where(same, -np.inf, similarity))):
                first = np.argsort(-left, axis=1, kind="stable")[:, :HITS]
                there = np.isfinite(np.take_along_axis(left, first, axis=1))
                distances[half].append(1.0 - np.take_along_axis(left, first, axis=1)[there])
                found[half].append(np.take_along_axis(same, first, axis=1)[there])
        return cls(
            np.concatenate([*distances[0], *distances[1]]), np.concatenate([*found[0], *found[1]])
        )

    def probabilities(self, calibration: Calibration) -> NDArray[np.float64]:
        return np.array([calibration.probability(distance) for distance in self.distances])

    def reliability(self, calibration: Calibration) -> list[tuple[float, float, int]]:
        """For each tenth of the probabilities that has hits: their mean, the share that is the same, and how many."""
        given = self.probabilities(calibration)
        bins = np.minimum((given * _BINS).astype(int), _BINS - 1)
        rows = []
        for number in range(_BINS):
            chosen = bins == number
            if chosen.any():
                rows.append(
                    (
                        float(given[chosen].mean()),
                        float(self.same[chosen].mean()),
                        int(chosen.sum()),
                    )
                )
        return rows

    def expected_error(self, calibration: Calibration) -> float:
        """The expected calibration error over ten bins of equal width (Guo et al. 2017, eq. 3)."""
        return sum(
            abs(said - true) * count for said, true, count in self.reliability(calibration)
        ) / len(self.distances)


def fit_calibration(judged: Judged) -> Calibration:
    """By maximum likelihood; where all hits are the same, or none, with one of the other kind at the far end."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e4)
    same = judged.same
    if same.all() or not same.any():
        same = np.append(same, [True, False])
        distances = np.append(judged.distances, [0.0, 2.0])
    else:
        distances = judged.distances
    fitted.fit(distances[:, None], same)
    return Calibration(float(fitted.intercept_[0]), max(1e-3, -float(fitted.coef_[0, 0])))
