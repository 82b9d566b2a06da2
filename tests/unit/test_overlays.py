"""Pictures of what makes two images alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.overlays import SIDE, Fitted, draw_overlay, encode_png, fit_size
from models.transforms import Region
from tests.support.images import photograph

WHITE = np.full((100, 200, 3), 255, dtype=np.uint8)


def colourfulness(picture: NDArray[np.uint8]) -> NDArray[np.int_]:
    return np.ptp(picture.astype(int), axis=-1)


def test_the_warmest_place_has_the_most_colour() -> None:
    grid = np.zeros((5, 5), dtype=np.float32)
    grid[1, 3] = 0.2
    drawn = draw_overlay(WHITE, grid, Region(50, 0, 100, 100))
    colours = colourfulness(drawn)
    row, column = np.unravel_index(colours.argmax(), colours.shape)
    assert 20 <= row < 40
    assert 110 <= column < 130
    assert not colours[:, :50].any()
    assert not colours[:, 150:].any()


@pytest.mark.parametrize("value", [0.0, -0.3])
def test_a_grid_without_warmth_leaves_a_grey_picture(value: float) -> None:
    picture = np.asarray(photograph("coffee").resize((60, 40)))
    drawn = draw_overlay(picture, np.full((7, 7), value, np.float32), Region(10, 0, 40, 40))
    assert colourfulness(drawn).max() <= 1
    assert drawn.std() > 10


def test_a_region_may_go_beyond_the_picture() -> None:
    grid = np.zeros((4, 4), dtype=np.float32)
    grid[0] = 1  # lies above the picture
    grid[1, 0] = 0.5
    drawn = draw_overlay(WHITE, grid, Region(0, -50, 200, 200))
    assert drawn.shape == WHITE.shape
    assert colourfulness(drawn)[5, 10] > colourfulness(drawn)[95, 190] == 0


@pytest.mark.parametrize("size", [(640, 400), (400, 640), (1, 1), (5000, 3), (512, 512)])
def test_a_whole_image_is_fitted(size: tuple[int, int]) -> None:
    fitted = Fitted().prepare(Image.new("RGB", size, (200, 100, 50)))
    width, height = fit_size(*size)
    assert fitted.shape == (SIDE, SIDE, 3)
    assert (fitted[:height, :width] == (200, 100, 50)).all()
    assert not fitted[height:].any()
    assert not fitted[:, width:].any()
    assert max(width, height) == SIDE


def test_pictures_lie_side_by_side() -> None:
    drawn = Image.open(io.BytesIO(encode_png([WHITE, WHITE[:50, :30]])))
    assert (drawn.format, drawn.size) == ("PNG", (238, 100))
    assert Image.open(io.BytesIO(encode_png([WHITE]))).size == (200, 100)
