"""The eight orientations of an image, and the inputs of encoders in each of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.bundles.framing import Framing
from models.bundles.manifest import ImageTower
from models.decoding.jobs import DecodeJob, run_job
from models.embedder import Embedder
from models.imaging import Box
from models.orientations import (
    UPRIGHT,
    Orientation,
    QuarterTurned,
    find_turned_rule,
    list_orientations,
    orient_input,
)
from models.transforms import CentreSquare, Preprocessing, prepare_input
from tests.support.images import PHOTOGRAPHS, encoded, photograph

EIGHT = list_orientations(mirror=True, turns=True)
NEUTRAL = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def oriented(image: Image.Image, orientation: Orientation) -> Image.Image:
    """Return what a file has that was turned and mirrored before it was saved."""
    turned = image.rotate(90 * orientation.turns, expand=True)
    return turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if orientation.mirrored else turned


def input_of(
    image: Image.Image, rule: Preprocessing, orientation: Orientation, box: Box | None = None
) -> NDArray[np.uint8]:
    turned = find_turned_rule(rule)
    rules = (rule,) if turned is None else (rule, turned)
    made = run_job(io.BytesIO(encoded(image, "PNG")), DecodeJob(rules, box)).inputs
    return orient_input(made[rule], orientation, None if turned is None else made[turned])


def differences(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> list[float]:
    """Return how much the pixels differ on average, for each shift by at most one pixel."""
    shifted = (
        np.roll(one.astype(int), (down, right), axis=(0, 1))
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    )
    return [float(np.abs(each - other)[1:-1, 1:-1].mean()) for each in shifted]


def framing(width: int, height: int, resize: str) -> Framing:
    return Framing(ImageTower("image.onnx", width, height, *NEUTRAL, resize=resize))


def test_the_orientations_are_the_group_of_the_square() -> None:
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    seen = {orient_input(pixels, each).tobytes() for each in EIGHT}
    assert len(seen) == len(EIGHT) == 8
    for first in EIGHT:
        for second in EIGHT:
            assert orient_input(orient_input(pixels, first), second).tobytes() in seen


@pytest.mark.parametrize(
    ("mirror", "turns", "count"), [(False, False, 1), (True, False, 2), (False, True, 4)]
)
def test_the_upright_image_comes_first(mirror: bool, turns: bool, count: int) -> None:
    found = list_orientations(mirror=mirror, turns=turns)
    assert (found[0], len(found)) == (UPRIGHT, count)
    assert {each.mirrored for each in found} == ({False, True} if mirror else {False})


@pytest.mark.parametrize(
    "rule",
    [
        CentreSquare(),
        framing(96, 96, "shortest-side"),
        framing(96, 96, "squash"),
        framing(96, 96, "pad"),
        framing(64, 96, "shortest-side"),
        framing(96, 64, "squash"),
        framing(120, 64, "pad"),
    ],
)
@pytest.mark.parametrize("box", [None, Box(20, 30, 260, 100)])
def test_an_oriented_input_is_the_input_of_the_oriented_image(
    rule: Preprocessing, box: Box | None
) -> None:
    image = photograph("coffee").resize((330, 210))
    part = image if box is None else image.crop((20, 30, 280, 130))
    for each in EIGHT:
        ours = input_of(image, rule, each, box)
        expected = rule.prepare(oriented(part, each))
        assert ours.shape == expected.shape
        # A crop or a border may begin one pixel elsewhere, and Pillow rounds in another order.
        assert min(differences(ours, expected)) < 2.5, each


def test_a_square_input_is_prepared_once() -> None:
    assert find_turned_rule(CentreSquare()) is None
    wide = framing(96, 64, "pad")
    assert find_turned_rule(wide) == QuarterTurned(wide)


def test_turning_the_file_gives_nearly_the_same_vector(embedder: Embedder) -> None:
    for name in PHOTOGRAPHS:
        image = photograph(name)
        for each in EIGHT:
            a, b = embedder.embed(
                np.stack(
                    [
                        input_of(image, embedder.preprocessing, each),
                        prepare_input(oriented(image, each)),
                    ]
                )
            )
            assert float(a @ b) > 0.999
