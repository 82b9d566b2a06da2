"""The calibration from distances to probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.calibration import Calibration, LabelledHits, fit_calibration
from models.weights_file import WeightsFile, WeightsInvalid, save_weights


def test_probability_and_distance_are_inverse_functions() -> None:
    calibration = Calibration(intercept=5.0, slope=12.0)
    assert calibration.probability(5 / 12) == pytest.approx(0.5)
    for probability in (0.01, 0.5, 0.99):
        assert calibration.probability(calibration.distance(probability)) == pytest.approx(
            probability
        )
    assert (calibration.distance(0), calibration.distance(1)) == (math.inf, -math.inf)
    assert calibration.probability(1e6) == pytest.approx(0)
    assert Calibration.from_json(calibration.as_json()) == calibration


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"intercept": 1, "slope": 0}',
        '{"intercept": NaN, "slope": 1}',
        '{"slope": "much"}',
    ],
)
def test_an_invalid_calibration_is_rejected(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Calibration.from_json(text)


def test_the_fit_recovers_the_parameters_that_generated_the_hits() -> None:
    rng, true = np.random.default_rng(0), Calibration(intercept=6.0, slope=15.0)
    distances = rng.uniform(0, 1, 50_000)
    same = rng.random(50_000) < [true.probability(distance) for distance in distances]
    fitted = fit_calibration(LabelledHits(distances, same))
    assert fitted.intercept == pytest.approx(6, abs=0.3)
    assert fitted.slope == pytest.approx(15, abs=0.7)
    assert LabelledHits(distances, same).expected_error(fitted) < 0.01
    assert LabelledHits(distances, ~same).expected_error(fitted) > 0.5


def test_the_expected_error_equals_that_computed_by_hand() -> None:
    always_half = Calibration(intercept=0.0, slope=1e-9)
    hits = LabelledHits(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, True, False]))
    assert hits.expected_error(always_half) == pytest.approx(0.25)
    assert hits.reliability(always_half) == [(pytest.approx(0.5), 0.75, 4)]


def test_hits_that_all_match_still_give_a_falling_curve() -> None:
    fitted = fit_calibration(LabelledHits(np.array([0.1, 0.2, 0.3]), np.array([True] * 3)))
    assert fitted.probability(0.2) > 0.8
    assert fitted.slope > 0


def test_every_image_is_a_query_with_and_without_its_class() -> None:
    vectors = np.eye(30, 64, dtype=np.float32)
    hits = LabelledHits.collect(vectors, ["a"] * 15 + ["b"] * 15)
    assert (len(hits.distances), hits.distances.min()) == (600, 1)
    assert not hits.same[300:].any()

    pairs = np.repeat(np.eye(3, 64, dtype=np.float32), 2, axis=0)  # three pairs of equal vectors
    hits = LabelledHits.collect(pairs, ["a", "a", "b", "b", "c", "c"])
    assert len(hits.distances) == 6 * 5 + 6 * 4
    assert np.array_equal(hits.same, hits.distances < 0.5)
    assert hits.same.sum() == 6


@pytest.mark.parametrize("text", ['{"intercept": ' + "9" * 401 + ', "slope": 1}', "[" * 100_000])
def test_weights_with_an_invalid_calibration_are_rejected(tmp_path: Path, text: str) -> None:
    projection = np.zeros((512, 2048), np.float16)
    save_weights(
        tmp_path / "weights.safetensors", {"projection.weight": projection}, {"calibration": text}
    )
    with pytest.raises(WeightsInvalid, match="The metadata of"):
        WeightsFile.load(tmp_path / "weights.safetensors")
