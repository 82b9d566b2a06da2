"""The checks of the soak test can fail: they find answers that mix model versions."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.support.space_checks import NO_VERSION, SpaceCheck, Timeline
from tests.support.use_cases import TinyEmbedder, colours

SAMPLE, OTHER = colours(1), colours(2)


@pytest.fixture
def check() -> SpaceCheck:
    return SpaceCheck("words", Timeline("words-1"), TinyEmbedder)


def answer_of(version: str, distance: float, space: str = "words") -> httpx.Response:
    hit: dict[str, Any] = {"master": {"id": "a"}, "distance": distance, "exact": False}
    return httpx.Response(200, json={"space": space, "model_version": version, "hits": [hit]})


def distance_of(check: SpaceCheck, version: str) -> float:
    return 1 - float(check._embed(version, SAMPLE) @ check._embed(version, OTHER))


def test_a_timeline_returns_the_versions_possible_during_a_request() -> None:
    timeline = Timeline("first")
    begin = time.monotonic()
    timeline.expect({"first", "second"})
    assert timeline.since(begin) == {"first", "second"}
    timeline.expect({"second"})
    assert timeline.since(begin) == {"first", "second"}
    assert timeline.since(time.monotonic()) == {"second"}
    assert timeline.current == {"second"}


def test_an_answer_by_one_active_version_passes(check: SpaceCheck) -> None:
    answer = answer_of("words-1", distance_of(check, "words-1"))
    check.check_answer(answer, time.monotonic(), SAMPLE, {"a": OTHER})
    assert (check.answers, check.distances) == (1, 1)


def test_distances_of_another_version_are_found(check: SpaceCheck) -> None:
    query = check._embed("words-1", SAMPLE)
    mixed = 1 - float(query @ check._embed("words-2", OTHER))
    answer = answer_of("words-1", mixed)
    with pytest.raises(AssertionError, match="is not the distance"):
        check.check_answer(answer, time.monotonic(), SAMPLE, {"a": OTHER})


@pytest.mark.parametrize(("version", "space"), [("words-2", "words"), ("words-1", "look")])
def test_answers_of_another_version_or_space_are_found(
    check: SpaceCheck, version: str, space: str
) -> None:
    answer = answer_of(version, distance_of(check, version), space)
    with pytest.raises(AssertionError, match="words had"):
        check.check_answer(answer, time.monotonic(), SAMPLE, {"a": OTHER})


def test_a_space_may_be_missing_only_while_it_has_no_version(check: SpaceCheck) -> None:
    missing = httpx.Response(422, json={"code": "space-not-found"})
    with pytest.raises(AssertionError, match="is not found"):
        check.check_answer(missing, time.monotonic(), SAMPLE, {})
    check.timeline.expect({NO_VERSION})
    check.check_answer(missing, time.monotonic(), SAMPLE, {})
    assert check.answers == 0
