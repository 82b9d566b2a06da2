"""Searches with words, alone and together with an image, in the spaces that take them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import Conflict, InvalidInput
from app.services.encoder_files import EncoderFiles
from app.services.queries import (
    Example,
    FileExample,
    MasterExample,
    SearchOptions,
    TextExample,
)
from app.services.search import SearchResult
from app.services.spaces import SpaceSummary
from app.services.texts import clean_text
from models.bundles.archive import read_bundle
from models.decoding.turns import Purpose
from storage.filter_parser import parse_filter
from storage.records import LOOK, WORDS, Master
from tests.support.tiny_encoders import make_image_bundle, make_text_bundle
from tests.support.tiny_network import tiny_weights
from tests.support.use_cases import UseCases, colours


def build_space(use_cases: UseCases, file: Path, space: str = WORDS) -> str:
    """Store the bundle, build the space with it, activate it; return the version."""
    version = read_bundle(file).version
    with file.open("rb") as content:  # add_encoder would try it in a process, which takes seconds
        EncoderFiles(use_cases.stores.objects).store(version, content)
    use_cases.reembed.start_building(version, space)
    while use_cases.worker.run_round():
        pass
    list(use_cases.reembed.activate_version(version))
    return version


@pytest.fixture
def masters(use_cases: UseCases) -> list[Master]:
    return [use_cases.upload(colours(seed), attributes={"n": seed}).master for seed in range(6)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text_bundle(tmp_path_factory.mktemp("bundle") / "words.bundle")


@pytest.fixture
def words(use_cases: UseCases, masters: list[Master], bundle: Path) -> str:
    return build_space(use_cases, bundle)


def search(
    use_cases: UseCases,
    image: bytes | None = None,
    text: str | None = None,
    share: float = 0.5,
    **given: Any,
) -> SearchResult:
    """Search with an image, with a text, or with both; ``share`` is then the weight of the text."""
    examples: list[Example] = []
    if image is not None:
        file = io.BytesIO(image)
        examples.append(FileExample(file, weight=1.0 if text is None else 1 - share))
    if text is not None:
        examples.append(TextExample(text, weight=share if examples else 1.0))
    return use_cases.search.search(examples, SearchOptions(**({"collection": "default"} | given)))


def distances(result: SearchResult) -> dict[Any, float]:
    return {hit.master.id: hit.distance for hit in result.hits}


def test_a_text_finds_what_is_nearest_to_its_vector(use_cases: UseCases, words: str) -> None:
    text = use_cases.texts.embed_text("a red bicycle", words)
    found = search(use_cases, text="a red bicycle")
    stored = use_cases.stores.vectors.fetch_vectors(words, list(distances(found)))
    expected = {id_: 1 - float(text.vector @ each.parts[0].vector) for id_, each in stored.items()}
    assert distances(found) == pytest.approx(expected, abs=1e-5)
    assert list(distances(found)) == sorted(expected, key=lambda id_: expected[id_])
    assert (found.space, found.model_version, found.understood) == (WORDS, words, None)
    assert {(hit.exact, hit.probability) for hit in found.hits} == {(False, None)}


def test_every_option_works_with_a_text(use_cases: UseCases, words: str) -> None:
    everything = search(use_cases, text="dog").hits
    even = parse_filter({"n": {"$in": [0, 2, 4]}})
    filtered = search(use_cases, text="dog", filter=even).hits
    assert filtered == [hit for hit in everything if hit.master.attributes["n"] % 2 == 0]
    assert search(use_cases, text="dog", k=2, offset=1).hits == everything[1:3]
    limit = everything[2].distance
    assert search(use_cases, text="dog", max_distance=limit).hits == everything[:3]


def test_a_search_with_an_image_stays_in_look_unless_it_names_a_space(
    use_cases: UseCases, words: str
) -> None:
    found = search(use_cases, colours(1))
    assert (found.space, found.model_version, found.understood) == (LOOK, "model-1", None)
    assert found.hits[0].exact
    found = search(use_cases, colours(1), space=WORDS)
    assert (found.space, found.model_version, found.hits[0].exact) == (WORDS, words, True)


@pytest.mark.parametrize(("weight", "alone"), [(0.0, {}), (1.0, {"text": "dog"})])
def test_a_weight_of_0_or_1_is_the_search_with_one_of_both(
    use_cases: UseCases, words: str, weight: float, alone: dict[str, Any]
) -> None:
    image = None if alone else colours(8)
    expected = search(use_cases, image, space=WORDS, **alone)
    mixed = search(use_cases, colours(8), text="dog", share=weight)
    assert distances(mixed) == pytest.approx(distances(expected), abs=1e-5)


def test_an_image_and_a_text_are_mixed_by_their_weights(use_cases: UseCases, words: str) -> None:
    image = use_cases.vision.decode_image(io.BytesIO(colours(8)), Purpose.SEARCH)
    text = use_cases.texts.embed_text("dog", words).vector
    mixed = 0.7 * use_cases.vision.embed_image(image, words) + 0.3 * text
    mixed /= np.linalg.norm(mixed)
    found = search(use_cases, colours(8), text="dog", share=0.3)
    stored = use_cases.stores.vectors.fetch_vectors(words, list(distances(found)))
    expected = {id_: 1 - float(mixed @ each.parts[0].vector) for id_, each in stored.items()}
    assert distances(found) == pytest.approx(expected, abs=1e-5)
    half = search(use_cases, colours(8), text="dog", share=0.5)
    assert search(use_cases, colours(8), text="dog").hits == half.hits


def test_an_image_with_a_text_has_no_exact_hit(use_cases: UseCases, words: str) -> None:
    assert not any(hit.exact for hit in search(use_cases, colours(1), text="dog").hits)


def test_a_master_and_a_text_are_mixed(
    use_cases: UseCases, words: str, masters: list[Master]
) -> None:
    both = [MasterExample(masters[1].id), TextExample("dog")]
    by_master = use_cases.search.search(both, SearchOptions("default"))
    by_sample = search(use_cases, colours(1), text="dog")
    assert distances(by_master) == pytest.approx(distances(by_sample), abs=1e-4)


def test_feedback_searches_with_the_first_hits(use_cases: UseCases, words: str) -> None:
    plain, moved = search(use_cases, text="dog"), search(use_cases, text="dog", feedback=True)
    assert set(distances(plain)) == set(distances(moved))
    assert max(distances(moved).values()) < min(distances(plain).values())


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"text": ""}, "invalid-text"),
        ({"text": " \n "}, "invalid-text"),
        ({"text": "a" * 501}, "invalid-text"),
        ({"text": "a\x00b"}, "invalid-text"),
        ({"text": "a\x1bb"}, "invalid-text"),
        ({"text": "\ud800"}, "invalid-text"),
        ({"text": "xyzzy"}, "text-not-understood"),
        ({"text": "dog", "space": LOOK}, "text-not-supported"),
        ({"text": "dog", "space": "nowhere"}, "space-not-found"),
        ({"text": "dog", "mirror": True}, "invalid-request"),
    ],
)
def test_a_text_that_cannot_be_searched_is_refused(
    use_cases: UseCases, words: str, given: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        search(use_cases, **given)
    assert refused.value.code == code


def test_feedback_needs_a_text(use_cases: UseCases) -> None:
    with pytest.raises(InvalidInput, match="needs a text"):
        search(use_cases, colours(1), feedback=True)


def test_a_text_has_no_probability(use_cases: UseCases, words: str) -> None:
    with pytest.raises(Conflict, match="calibrated probabilities") as refused:
        search(use_cases, text="dog", min_probability=0.5)
    assert refused.value.code == "not-calibrated"


def test_white_space_and_the_form_of_unicode_do_not_matter() -> None:
    assert clean_text("  a\tred \n dog ") == "a red dog"
    assert clean_text("cafe\u0301") == "café"


def test_a_space_of_images_takes_no_text(use_cases: UseCases, tmp_path: Path) -> None:
    use_cases.upload(colours(1))
    image_bundle = make_image_bundle(tmp_path / "image.bundle")
    build_space(use_cases, image_bundle, "copies")
    with pytest.raises(InvalidInput) as refused:
        search(use_cases, text="dog", space="copies")
    assert refused.value.code == "text-not-supported"
    with pytest.raises(InvalidInput, match="give the space another name"):
        build_space(use_cases, make_image_bundle(tmp_path / "second.bundle", name="second"))
    assert [space.name for space in use_cases.spaces.list_spaces()] == [LOOK, "copies"]


def test_the_spaces_report_whether_they_take_words(use_cases: UseCases, words: str) -> None:
    version = use_cases.reembed.add_encoder(io.BytesIO(tiny_weights("other")))
    use_cases.reembed.start_building(version, "other")
    assert use_cases.spaces.list_spaces() == [
        SpaceSummary(LOOK, "model-1", 512, None, False),
        SpaceSummary("other", None, None, None, False),
        SpaceSummary(WORDS, words, 128, "encoder", False),
    ]


def test_a_bundle_that_cannot_be_used_leaves_nothing_behind(
    use_cases: UseCases, bundle: Path
) -> None:
    content = bundle.read_bytes()
    with pytest.raises(InvalidInput) as refused:
        use_cases.reembed.add_encoder(io.BytesIO(content[:-100]))
    assert refused.value.code == "invalid-bundle"
    assert not list(use_cases.stores.objects.list("models"))


def test_the_length_of_a_text_is_that_of_its_composed_form() -> None:
    assert clean_text("e\u0301" * 500) == "é" * 500


def test_the_length_in_a_refusal_is_that_of_the_composed_form() -> None:
    with pytest.raises(InvalidInput, match="40000 characters"):
        clean_text("a" + "\u0301\u0323" * 20_000)


def test_a_network_that_fails_for_an_image_leaves_a_dead_letter(
    use_cases: UseCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = use_cases.upload(colours(1)).master
    embed = use_cases.embedder.embed
    monkeypatch.setattr(use_cases.embedder, "embed", lambda images, **_: embed(images) * np.nan)
    assert not use_cases.upload(colours(2)).indexed
    with pytest.raises(Conflict) as refused:
        search(use_cases, colours(3))
    assert refused.value.code == "not-embeddable"
    use_cases.worker.run_round()
    assert use_cases.stores.vectors.count("model-1") == 1
    found = use_cases.search.search([MasterExample(master.id)], SearchOptions("default"))
    assert len(found.hits) == 1
