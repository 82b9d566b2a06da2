"""The probability of hits, and searches with a minimum probability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.settings import Settings
from models.calibration import Calibration
from models.embedder import load_embedder
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import Service, serving

CALIBRATION = Calibration(intercept=8.0, slope=25.0)


@pytest.fixture(scope="module")
def weights() -> WeightsFile:
    return replace(WeightsFile.load(DEFAULT_WEIGHTS), calibration=CALIBRATION)


@pytest.fixture
def calibrated(settings: Settings, weights: WeightsFile) -> Iterator[Service]:
    with serving(settings, load_embedder(weights, slots=2)) as service:
        for name in ("chelsea", "coffee", "rocket"):
            service.put_master(encoded(photograph(name)), f"{name}.jpg")
        yield service


def test_every_hit_has_a_probability(calibrated: Service) -> None:
    hits = calibrated.search(encoded(part_of("chelsea", 1, (300, 260))))
    assert [hit["probability"] for hit in hits] == [
        pytest.approx(CALIBRATION.probability(hit["distance"]), abs=1e-4) for hit in hits
    ]
    assert hits[0]["probability"] > 0.5 > hits[1]["probability"]
    assert calibrated.search(CAT)[0]["probability"] == 1


def test_a_search_may_find_nothing(calibrated: Service) -> None:
    part = encoded(part_of("chelsea", 1, (300, 260)))
    everything = calibrated.search(part)
    likely = calibrated.search(part, min_probability="0.5")
    assert likely == everything[:1]
    assert calibrated.search(part, min_probability="0.5", max_distance="0") == []
    assert calibrated.search(encoded(photograph("astronaut")), min_probability="0.9") == []
    assert calibrated.search(part, min_probability="0") == everything
    assert calibrated.search(part, min_probability="1") == []
    assert [hit["exact"] for hit in calibrated.search(CAT, min_probability="1")] == [True]


def test_a_hit_passes_a_minimum_equal_to_its_own_probability(calibrated: Service) -> None:
    for seed in range(4):
        part = encoded(part_of("coffee", seed, (300, 260)))
        for hit in calibrated.search(part):
            assert hit in calibrated.search(part, min_probability=str(hit["probability"]))


def test_two_images_are_compared_with_a_probability(calibrated: Service) -> None:
    compared = calibrated.client.post(
        "/compare", files={"a": ("a.jpg", CAT), "b": ("b.jpg", encoded(photograph("rocket")))}
    ).json()
    assert compared["probability"] == pytest.approx(
        CALIBRATION.probability(compared["distance"]), abs=1e-4
    )
    same = calibrated.client.post(
        "/compare", files={"a": ("a.jpg", CAT), "b": ("b.jpg", CAT)}
    ).json()
    assert (same["exact"], same["probability"]) == (True, 1)


def test_a_model_without_calibration_has_no_probability(
    settings: Settings, weights: WeightsFile
) -> None:
    with serving(settings, load_embedder(replace(weights, calibration=None), slots=2)) as service:
        service.put_master(CAT)
        assert service.search(CAT)[0]["probability"] is None
        refused = service.client.post(
            "/search", files={"sample": ("a.jpg", CAT)}, data={"min_probability": "0.5"}
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "not-calibrated")


@pytest.mark.real_network
def test_the_shipped_model_separates_matches_from_other_images(service: Service) -> None:
    for name in ("chelsea", "coffee", "rocket"):
        service.put_master(encoded(photograph(name)), f"{name}.jpg")
    assert (
        len(service.search(encoded(part_of("coffee", 1, (300, 260))), min_probability="0.5")) == 1
    )
    assert service.search(encoded(photograph("astronaut")), min_probability="0.5") == []
    wrong = service.client.post(
        "/search", files={"sample": ("a.jpg", CAT)}, data={"min_probability": "1.5"}
    )
    assert wrong.status_code == 422
