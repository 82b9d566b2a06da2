"""Words become directions of the images' space, and unknown words are recognised as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as ops
import pytest
from numpy.typing import NDArray
from openvino.op import Constant

from models.text_encoder import TextNotUnderstood
from models.transforms import INPUT_SIDE
from models.weights_file import DEFAULT_WEIGHTS, FEATURE_DIM, WeightsFile
from models.words.feedback import refine_query
from models.words.look_words import UNDERSTOOD, LookWords
from models.words.words_file import load_words, quantize_rows
from tests.support.weights import turned_weights

Nearest = Callable[[str], list[str]]
NONSENSE = (
    "asdfgh",
    "blorptang",
    "quintorbal zzyx",
    "xkcdvbn qwrt",
    "of the and to",
    "12345",
    "...",
)


@pytest.fixture(scope="module")
def words() -> LookWords:
    return LookWords()


@pytest.fixture(scope="module")
def weights() -> WeightsFile:
    return WeightsFile.load(DEFAULT_WEIGHTS)


@pytest.fixture(scope="module")
def nearest(words: LookWords, weights: WeightsFile) -> Nearest:
    """The names of the five classes whose directions are nearest to a text."""

    def find(text: str) -> list[str]:
        similarities = words.find_directions(weights) @ words.embed_text(text, weights).vector
        return [words.class_names[number] for number in np.argsort(-similarities)[:5]]

    return find


def test_a_text_becomes_512_floats_of_length_1(words: LookWords, weights: WeightsFile) -> None:
    vector, understood = words.embed_text("a red sports car", weights)
    assert (vector.shape, vector.dtype) == ((512,), np.float32)
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert UNDERSTOOD <= understood <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("goldfish", "goldfish"),
        ("grand piano", "grand piano"),
        ("umbrella", "umbrella"),
        ("crocodile", "Nile crocodile"),
        ("laptops", "laptop computer"),
        ("  Zebra!  ", "zebra"),
    ],
)
def test_the_name_of_a_class_is_nearest_to_its_direction(
    nearest: Nearest, text: str, expected: str
) -> None:
    assert expected in nearest(text)


def test_a_text_without_the_name_of_a_class_is_near_what_it_describes(nearest: Nearest) -> None:
    assert {"rocking chair", "park bench", "couch", "folding chair"} & set(
        nearest("something to sit on")
    )
    assert "sports car" in nearest("red sports car")


@pytest.mark.parametrize(
    ("text", "below"), [("dog", "domestic dog"), ("bird", "bird"), ("fruit", "fruit")]
)
def test_a_general_word_is_an_average_of_what_lies_under_it(
    words: LookWords, text: str, below: str
) -> None:
    found = words.weigh_classes(text)
    under = words.find_classes_under(below)
    assert len(under) > 5
    assert found.weights[under].sum() > 0.9
    assert found.weights.max() < 0.5


@pytest.mark.parametrize("text", ["dog", "fruit", "vehicle", "grand piano", "bicycles", "crane"])
def test_plain_english_nouns_are_understood(
    words: LookWords, weights: WeightsFile, text: str
) -> None:
    assert words.embed_text(text, weights).understood >= UNDERSTOOD


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_not_understood(words: LookWords, weights: WeightsFile, text: str) -> None:
    assert words.embed_text(text, weights).understood < UNDERSTOOD


@pytest.mark.parametrize(
    "text", ["Hund", "perro", "un chien", "kleiner Hund", "gatto", "собака", "自行车"]
)
def test_other_languages_are_not_understood(
    words: LookWords, weights: WeightsFile, text: str
) -> None:
    assert words.embed_text(text, weights).understood < UNDERSTOOD


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "😀", "\x00\x01"])
def test_a_text_without_any_known_token_is_refused(
    words: LookWords, weights: WeightsFile, text: str
) -> None:
    with pytest.raises(TextNotUnderstood, match="English"):
        words.embed_text(text, weights)


def test_only_the_start_of_an_overlong_text_counts(words: LookWords, weights: WeightsFile) -> None:
    long = words.embed_text("dog " * 100, weights)
    longer = words.embed_text("dog " * 20_000, weights)
    assert np.array_equal(long.vector, longer.vector)
    assert long.understood == longer.understood


def test_the_same_text_has_the_same_vector_after_reloading(
    words: LookWords, weights: WeightsFile
) -> None:
    for text in ("dog", "a wooden chair in the garden"):
        first, again = words.embed_text(text, weights), words.embed_text(text, weights)
        reloaded = LookWords().embed_text(text, weights)
        assert np.array_equal(first.vector, again.vector)
        assert np.array_equal(first.vector, reloaded.vector)
        assert first.understood == again.understood == reloaded.understood


def test_another_version_has_directions_of_its_own(
    words: LookWords, weights: WeightsFile, tmp_path: Path
) -> None:
    turned = WeightsFile.load(turned_weights(tmp_path / "turned.safetensors", 3))
    assert turned.version != weights.version
    here, there = (words.embed_text("dog", each).vector for each in (weights, turned))
    assert float(here @ there) < 0.5
    same = words.find_directions(turned) @ there
    assert np.allclose(same, words.find_directions(weights) @ here, atol=1e-3)


def _quantize_only_the_projection(weights: WeightsFile, folder: Path) -> WeightsFile:
    """Quantized weights that are served as such, but have no backbone before the projection."""
    rows, scale = quantize_rows(weights.tensors["projection.weight"].astype(np.float32))
    pixels = ops.parameter([-1, INPUT_SIDE, INPUT_SIDE, 3], np.uint8)
    colours = ops.reduce_mean(ops.convert(pixels, np.float32), np.array([1, 2]))
    features = ops.matmul(colours, np.ones((3, FEATURE_DIM), dtype=np.float32), False, False)
    projection = ops.multiply(ops.convert(Constant(rows), np.float32), Constant(scale))
    graph = ov.Model([ops.matmul(features, projection, False, True)], [pixels])
    ov.save_model(graph, folder / "graph.xml", compress_to_fp16=False)
    tensors = {
        f"openvino.{kind}": np.fromfile(folder / f"graph.{kind}", dtype=np.uint8)
        for kind in ("xml", "bin")
    }
    return replace(weights, version="rn50-int8", tensors=tensors)


def test_quantized_weights_use_the_projection_of_their_graph(
    words: LookWords, weights: WeightsFile, tmp_path: Path
) -> None:
    turned = WeightsFile.load(turned_weights(tmp_path / "turned.safetensors", 3))
    quantized = _quantize_only_the_projection(turned, tmp_path)
    expected, found = (words.embed_text("dog", each).vector for each in (turned, quantized))
    assert float(expected @ found) > 0.999


def test_weights_whose_projection_cannot_be_read_use_the_shipped_one(
    words: LookWords, weights: WeightsFile
) -> None:
    unreadable = replace(weights, version="rn50-unreadable", tensors={})
    here, there = (words.embed_text("dog", each).vector for each in (weights, unreadable))
    assert np.array_equal(here, there)


def test_the_data_file_is_small() -> None:
    assert sum(tensor.nbytes for tensor in load_words().values()) < 50e6


def _unit(*values: float) -> NDArray[np.float32]:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def test_feedback_moves_a_confident_query_towards_its_first_hits() -> None:
    query, hit = _unit(1, 0, 0), _unit(1, 1, 0)
    refined = refine_query(query, np.stack([hit] * 10), 0.95)
    assert float(refined @ hit) > float(query @ hit)
    assert abs(float(np.linalg.norm(refined)) - 1) < 1e-5
    assert refined.dtype == np.float32


def test_feedback_uses_only_the_first_ten_hits() -> None:
    query, hit, far = _unit(1, 0, 0), _unit(1, 1, 0), _unit(0, 0, 1)
    hits = np.stack([hit] * 10 + [far] * 90)
    assert np.array_equal(refine_query(query, hits, 0.95), refine_query(query, hits[:10], 0.95))


def test_feedback_leaves_a_doubtful_query_and_one_without_hits_alone() -> None:
    query, hit = _unit(1, 0, 0), _unit(1, 1, 0)
    assert refine_query(query, hit[None], 0.3) is query
    assert refine_query(query, np.empty((0, 3), dtype=np.float32), 0.95) is query
