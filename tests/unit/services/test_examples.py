"""Searches with several examples: their weights, their spaces, and vectors that are given."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from app.errors import Conflict, InvalidInput, NotFound
from app.services.queries import (
    Example,
    FileExample,
    MasterExample,
    SearchOptions,
    TextExample,
    VectorExample,
)
from app.services.search import SearchResult
from models.imaging import Box, ImageRejected
from storage.filter_parser import parse_filter
from storage.records import LOOK, WORDS, Master
from tests.support.tiny_encoders import make_text_bundle
from tests.support.use_cases import UseCases, colours
from tests.unit.services.test_search_words import build_space

COUNT = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_bundle(tmp_path_factory.mktemp("bundle") / "words.bundle")


@pytest.fixture
def masters(use_cases: UseCases) -> list[Master]:
    return [use_cases.upload(colours(seed), attributes={"n": seed}).master for seed in range(COUNT)]


@pytest.fixture
def words(use_cases: UseCases, masters: list[Master], bundle: Path) -> str:
    return build_space(use_cases, bundle)


def search(use_cases: UseCases, *examples: Example, **options: Any) -> SearchResult:
    return use_cases.search.search(examples, SearchOptions("default", **options))


def distances(result: SearchResult) -> dict[UUID, float]:
    return {hit.master.id: hit.distance for hit in result.hits}


def vectors_of(use_cases: UseCases, version: str) -> dict[UUID, Any]:
    ids = [id_ for some in use_cases.stores.vectors.iterate_ids(version) for id_ in some]
    stored = use_cases.stores.vectors.fetch_vectors(version, ids)
    return {id_: record.parts[0].vector.astype(np.float64) for id_, record in stored.items()}


def expected_distances(
    use_cases: UseCases, examples: dict[str, list[tuple[Any, float]]]
) -> dict[UUID, float]:
    """Return the distances by the definition, from the vectors and weights of each version."""
    similarities: dict[UUID, float] = {}
    total = 0.0
    for version, weighted in examples.items():
        combined = sum(weight * vector.astype(np.float64) for vector, weight in weighted)
        total += float(np.linalg.norm(combined))
        for id_, vector in vectors_of(use_cases, version).items():
            similarity = sum(weight * float(each @ vector) for each, weight in weighted)
            similarities[id_] = similarities.get(id_, 0.0) + similarity
    return {id_: 1 - each / total for id_, each in similarities.items()}


def nearest(expected: dict[UUID, float], count: int) -> list[UUID]:
    return sorted(expected, key=lambda id_: (round(expected[id_], 6), id_))[:count]


def test_masters_are_ordered_by_the_weighted_sum_of_their_similarities(
    use_cases: UseCases, masters: list[Master]
) -> None:
    stored = vectors_of(use_cases, "model-1")
    weighted = [(stored[masters[0].id], 1.0), (stored[masters[1].id], 0.4)]
    weighted.append((stored[masters[2].id], -0.7))
    examples = [
        MasterExample(master.id, weight=weight)
        for master, (_, weight) in zip(masters, weighted, strict=False)
    ]
    found = search(use_cases, *examples, k=COUNT)
    expected = expected_distances(use_cases, {"model-1": weighted})
    assert distances(found) == pytest.approx(expected, abs=1e-5)
    assert list(distances(found)) == nearest(expected, COUNT)
    assert {(hit.exact, hit.probability) for hit in found.hits} == {(False, None)}


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 0.9), (0.6, -0.5), (-1.0, 0.3)])
def test_examples_in_two_spaces_share_the_distance(
    use_cases: UseCases, masters: list[Master], words: str, weights: tuple[float, float]
) -> None:
    look = vectors_of(use_cases, "model-1")[masters[3].id]
    text = use_cases.texts.embed_text("a red bicycle", words).vector
    examples = [
        MasterExample(masters[3].id, weight=weights[0], space=LOOK),
        TextExample("a red bicycle", weight=weights[1]),
    ]
    expected = expected_distances(
        use_cases, {"model-1": [(look, weights[0])], words: [(text, weights[1])]}
    )
    for k in (1, 3, COUNT):
        found = search(use_cases, *examples, k=k)
        assert list(distances(found)) == nearest(expected, k)
        assert all(
            hit.distance == pytest.approx(expected[hit.master.id], abs=1e-5) for hit in found.hits
        )
    assert found.versions == {LOOK: "model-1", WORDS: words}
    assert (found.space, found.model_version) == (LOOK, "model-1")


def test_options_hold_for_the_distance_over_two_spaces(
    use_cases: UseCases, masters: list[Master], words: str
) -> None:
    examples = [MasterExample(masters[3].id, space=LOOK), TextExample("a red bicycle")]
    everything = search(use_cases, *examples, k=COUNT).hits
    assert search(use_cases, *examples, k=4, offset=3).hits == everything[3:7]
    limit = everything[9].distance
    assert search(use_cases, *examples, k=COUNT, max_distance=limit).hits == everything[:10]
    even = parse_filter({"n": {"$in": list(range(0, COUNT, 2))}})
    filtered = search(use_cases, *examples, k=COUNT, filter=even).hits
    assert filtered == [hit for hit in everything if hit.master.attributes["n"] % 2 == 0]


def test_a_master_that_one_of_the_spaces_lacks_is_not_found(
    use_cases: UseCases, masters: list[Master], words: str
) -> None:
    use_cases.stores.vectors.delete(words, [masters[0].id])
    examples = [MasterExample(masters[0].id, space=LOOK), TextExample("dog")]
    found = search(use_cases, *examples, k=COUNT)
    assert set(distances(found)) == {master.id for master in masters[1:]}


def test_a_deleted_master_is_not_found_in_two_spaces(
    use_cases: UseCases, masters: list[Master], words: str
) -> None:
    examples = [MasterExample(masters[0].id, space=LOOK), TextExample("dog")]
    first = search(use_cases, *examples, k=3).hits
    gone = first[1].master.id
    use_cases.masters.delete_master(gone)
    found = search(use_cases, *examples, k=2).hits
    assert [hit.master.id for hit in found] == [first[0].master.id, first[2].master.id]


@pytest.mark.parametrize("weight", [0.01, 0.5, 1.0])
def test_the_weight_of_a_lone_example_does_not_matter(
    use_cases: UseCases, masters: list[Master], weight: float
) -> None:
    plain = search(use_cases, FileExample(io.BytesIO(colours(1))))
    weighted = search(use_cases, FileExample(io.BytesIO(colours(1)), weight=weight))
    assert weighted.hits == plain.hits
    assert weighted.hits[0].exact


def test_a_lone_example_with_a_negative_weight_finds_what_is_least_alike(
    use_cases: UseCases, masters: list[Master]
) -> None:
    alike = distances(search(use_cases, MasterExample(masters[5].id), k=COUNT))
    unlike = search(use_cases, MasterExample(masters[5].id, weight=-1.0), k=COUNT)
    assert distances(unlike) == pytest.approx(
        {id_: 2 - each for id_, each in alike.items()}, abs=1e-5
    )
    assert unlike.hits[-1].master.id == masters[5].id
    assert not any(hit.exact for hit in unlike.hits)


def test_a_vector_that_is_given_finds_what_its_image_finds(
    use_cases: UseCases, masters: list[Master]
) -> None:
    vector = 3.5 * vectors_of(use_cases, "model-1")[masters[2].id]
    found = search(use_cases, VectorExample(vector.tolist()), k=COUNT)
    by_master = search(use_cases, MasterExample(masters[2].id), k=COUNT)
    assert distances(found) == pytest.approx(distances(by_master), abs=1e-6)
    assert {(hit.exact, hit.probability) for hit in found.hits} == {(False, None)}


@pytest.mark.parametrize(
    "vector",
    [[1.0] * 511, [1.0] * 513, [], [0.0] * 512, [math.nan] * 512, [math.inf] * 512, [1e300] * 512],
)
def test_a_vector_that_fits_no_image_is_refused(
    use_cases: UseCases, masters: list[Master], vector: list[float]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        search(use_cases, VectorExample(vector))
    assert refused.value.code == "invalid-vector"


def test_examples_that_cancel_each_other_out_are_refused(
    use_cases: UseCases, masters: list[Master], words: str
) -> None:
    one, text = masters[0].id, "a red bicycle"
    for examples in (
        [MasterExample(one), MasterExample(one, weight=-1.0)],
        [FileExample(io.BytesIO(colours(0))), MasterExample(one, weight=-1.0)],
        [TextExample(text, weight=0.3), TextExample(text, weight=-0.3)],
        [MasterExample(one, weight=0.0)],
    ):
        with pytest.raises(InvalidInput) as refused:
            search(use_cases, *examples)
        assert refused.value.code == "examples-cancel"
    left = search(use_cases, MasterExample(one, weight=0.0, space=LOOK), TextExample(text))
    assert left.hits == search(use_cases, TextExample(text)).hits


def test_only_a_search_with_one_image_has_probabilities(
    use_cases: UseCases, masters: list[Master]
) -> None:
    vector = vectors_of(use_cases, "model-1")[masters[0].id].tolist()
    for examples in (
        [MasterExample(masters[0].id), MasterExample(masters[1].id)],
        [MasterExample(masters[0].id, weight=-1.0)],
        [VectorExample(vector)],
    ):
        with pytest.raises(Conflict) as refused:
            search(use_cases, *examples, min_probability=0.5)
        assert refused.value.code == "not-calibrated"


def test_mirroring_mirrors_every_image(use_cases: UseCases, masters: list[Master]) -> None:
    image = colours(1)
    examples = [FileExample(io.BytesIO(image)), MasterExample(masters[7].id, weight=0.5)]
    plain = distances(search(use_cases, *examples, k=COUNT))
    both = distances(search(use_cases, *examples, k=COUNT, mirror=True))
    assert set(both) == set(plain)
    assert all(both[id_] <= plain[id_] + 1e-5 for id_ in plain)
    assert any(both[id_] < plain[id_] - 1e-3 for id_ in plain)


@pytest.mark.parametrize(
    ("examples", "options", "code"),
    [
        ([], {}, "invalid-request"),
        ([TextExample("dog")] * 21, {}, "invalid-request"),
        ([TextExample("dog")], {"mirror": True}, "invalid-request"),
        ([TextExample("dog")], {"turns": True}, "invalid-request"),
        ([VectorExample([1.0] * 512)], {"mirror": True}, "invalid-request"),
        ([VectorExample([1.0] * 512)], {"feedback": True}, "invalid-request"),
        ([VectorExample([1.0] * 512, space="nowhere")], {}, "space-not-found"),
        ([VectorExample([1.0] * 512)], {"k": 1, "offset": 10_000}, "invalid-request"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    use_cases: UseCases, examples: list[Example], options: dict[str, Any], code: str
) -> None:
    use_cases.upload(colours(1))
    with pytest.raises(InvalidInput) as refused:
        search(use_cases, *examples, **options)
    assert refused.value.code == code


def test_every_example_has_to_be_usable(use_cases: UseCases, masters: list[Master]) -> None:
    good = MasterExample(masters[0].id)
    with pytest.raises(NotFound):
        search(use_cases, good, MasterExample(uuid4()))
    with pytest.raises(ImageRejected):
        search(use_cases, good, MasterExample(masters[1].id, Box(1000, 0, 10, 10)))
