"""Preprocessing: turns an upright RGB image into a network's input.

Every encoder has its own. That of the ResNet is here; its id is stored in the weights file and is
therefore part of the model version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INPUT_SIDE = 224  # pixels
PIXEL_MEAN = (0.485, 0.456, 0.406)  # of ImageNet's red, green and blue, from 0 to 1 (torchvision)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of an image, which may go beyond its edges."""

    x: float  # of the left edge
    y: float  # of the top edge
    width: float
    height: float

    def scale(self, factor: float) -> Region:
        """Return the rectangle in pixels of an image that is that much larger."""
        return Region(self.x * factor, self.y * factor, self.width * factor, self.height * factor)


class Preprocessing(Protocol):
    """Turns an upright RGB image into the input of one encoder.

    ``min_side`` is the length in pixels that the image's shorter side needs, if the original has
    it, so that ``prepare`` never enlarges what a scaled decode made too small.
    ``converts_colours`` says whether the image's colours are converted by its profile. ``shape`` is
    that of every input. Two that do the same are equal and have the same hash.
    """

    @property
    def min_side(self) -> int: ...

    @property
    def converts_colours(self) -> bool: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Scale, crop or pad an RGB image to the encoder's ``(height, width, 3)`` uint8."""

    def find_region(self, width: int, height: int) -> Region:
        """Return what the input shows of an image of that size, to about a pixel."""


@dataclass(frozen=True)
class CentreSquare:
    """The preprocessing of the ResNet: ``prepare_input``."""

    min_side: int = INPUT_SIDE
    converts_colours: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        return INPUT_SIDE, INPUT_SIDE, 3

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the centre square as ``(224, 224, 3)`` uint8."""
        return prepare_input(image)

    def find_region(self, width: int, height: int) -> Region:
        """Return the centre square."""
        side = min(width, height)
        return Region((width - side) / 2, (height - side) / 2, side, side)


PREPROCESSING_ID = "centre-square-224-bicubic-2"  # of weights that this release makes
PREPROCESSINGS = {
    "centre-square-224-bicubic-1": CentreSquare(converts_colours=False),
    PREPROCESSING_ID: CentreSquare(),
}


def prepare_input(image: Image.Image) -> NDArray[np.uint8]:
    """Scale the centre square of an RGB image to ``(224, 224, 3)`` uint8.

    Normalisation by ``PIXEL_MEAN`` and ``PIXEL_STD`` is the first step of the network itself.
    """
    width, height = image.size
    side = min(width, height)
    # Half pixels are intended: a mirrored image then yields the mirrored square.
    left, top = (width - side) / 2, (height - side) / 2
    square = image.resize(
        (INPUT_SIDE, INPUT_SIDE),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )
    return np.asarray(square)
