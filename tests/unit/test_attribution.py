"""Which places of two images make their embeddings alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.attribution import CELLS, Attribution, attribute_similarity
from models.embedder import Embedder
from models.engines import OpenVinoEmbedder
from models.transforms import INPUT_SIDE, prepare_input
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile
from tests.support.images import PHOTOGRAPHS, photograph
from tests.support.use_cases import TinyEmbedder

CAT = photograph("chelsea")
PATCH = CAT.crop((100, 30, 300, 230)).resize((96, 96))  # an eye and the nose


def with_patch(name: str, left: int, top: int) -> NDArray[np.uint8]:
    """Return a photograph with a part of the cat pasted into it."""
    pixels = prepare_input(photograph(name)).copy()
    pixels[top : top + 96, left : left + 96] = np.asarray(PATCH)
    return pixels


def warmest(grid: NDArray[np.float32]) -> tuple[float, float]:
    """Return the middle of the warmest place, in pixels of the input: left, top."""
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    rows, columns = grid.shape
    return (column + 0.5) * INPUT_SIDE / columns, (row + 0.5) * INPUT_SIDE / rows


class Occluded:
    """The shipped network without its places, so that cells are covered instead."""

    places = None

    def __init__(self, embedder: Embedder) -> None:
        self.embed = embedder.embed


def attribute(embedder: object, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Attribution:
    return attribute_similarity(embedder, one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("covered", [False, True])
@pytest.mark.parametrize(
    ("name", "corner"), [("coffee", (16, 16)), ("rocket", (112, 16)), ("astronaut", (16, 112))]
)
def test_the_warmest_place_is_what_both_images_show(
    embedder: Embedder, name: str, corner: tuple[int, int], covered: bool
) -> None:
    used = Occluded(embedder) if covered else embedder
    found = attribute(used, with_patch(name, *corner), prepare_input(CAT))
    assert found.method == ("occlusion" if covered else "activation")
    left, top = warmest(found.grids[0])
    assert corner[0] <= left <= corner[0] + 96
    assert corner[1] <= top <= corner[1] + 96


@pytest.mark.parametrize("pooling", ["gem", "average"])
def test_activations_sum_to_the_similarity(pooling: str) -> None:
    weights = replace(WeightsFile.load(DEFAULT_WEIGHTS), pooling=pooling)
    embedder = OpenVinoEmbedder(weights, slots=1, precision="f32")
    assert embedder.places is not None
    inputs = [prepare_input(photograph(name)) for name in PHOTOGRAPHS]
    vectors = embedder.embed(np.stack(inputs))
    for pixels, vector in zip(inputs, vectors, strict=True):
        places = embedder.places.split_embedding(pixels)
        assert places.shape == (7, 7, 512)
        assert np.allclose(places.sum(axis=(0, 1)), vector, atol=1e-5)
    found = attribute_similarity(embedder, inputs[0], inputs[1])
    assert found.similarity == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    for grid in found.grids:
        assert float(grid.sum()) == pytest.approx(found.similarity, abs=1e-5)


def test_covered_cells_lose_the_similarity_that_they_add() -> None:
    draw = np.random.default_rng(0)
    side = INPUT_SIDE // CELLS
    one, other = (
        np.kron(draw.integers(0, 256, (8, 8, 3)), np.ones((28, 28, 1))).astype(np.uint8)
        for _ in range(2)
    )
    one[side : 2 * side, 2 * side : 3 * side] = other[side : 2 * side, 2 * side : 3 * side]
    embedder = TinyEmbedder("model-1")
    found = attribute_similarity(embedder, one, other)
    a, b = (embedder.embed(each[None])[0] for each in (one, other))
    assert (found.method, found.similarity) == ("occlusion", pytest.approx(float(a @ b)))
    covered = one.copy()
    covered[:side, :side] = one.mean(axis=(0, 1)).astype(np.uint8)
    loss = found.similarity - float(embedder.embed(covered[None])[0] @ b)
    assert found.grids[0][0, 0] == pytest.approx(loss, abs=1e-6)
    for grid in found.grids:
        assert grid.shape == (CELLS, CELLS)
        assert np.unravel_index(grid.argmax(), grid.shape) == (1, 2)


def test_quantized_weights_have_no_places(embedder: Embedder) -> None:
    weights = WeightsFile.load(DEFAULT_WEIGHTS)
    bare = {
        name: each for name, each in weights.tensors.items() if not name.startswith("projection")
    }
    assert OpenVinoEmbedder(replace(weights, tensors=bare), slots=1).places is None
    assert isinstance(embedder, OpenVinoEmbedder)
    assert embedder.places is not None


def test_a_plain_image_is_explained(embedder: Embedder) -> None:
    grey = np.asarray(Image.new("RGB", (INPUT_SIDE, INPUT_SIDE), "grey"))
    found = attribute(embedder, grey, prepare_input(CAT))
    assert all(np.isfinite(grid).all() for grid in found.grids)
