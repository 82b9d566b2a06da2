"""The eight orientations of an image, and the input of an encoder in each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.transforms import Preprocessing, Region


@dataclass(frozen=True)
class Orientation:
    """How an image is shown. The eight of them are the symmetries of the square."""

    turns: int = 0  # by 90 degrees anticlockwise, 0 to 3
    mirrored: bool = False  # left to right, after it was turned


UPRIGHT = Orientation()


def list_orientations(*, mirror: bool, turns: bool) -> tuple[Orientation, ...]:
    """Return the upright orientation, and then the mirrored and turned ones that are wanted."""
    return tuple(
        Orientation(quarters, mirrored)
        for quarters in (range(4) if turns else (0,))
        for mirrored in ((False, True) if mirror else (False,))
    )


@dataclass(frozen=True)
class QuarterTurned:
    """The preprocessing of an image that is turned by 90 degrees anticlockwise first."""

    rule: Preprocessing

    @property
    def min_side(self) -> int:
        return self.rule.min_side

    @property
    def converts_colours(self) -> bool:
        return self.rule.converts_colours

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.rule.shape

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        return self.rule.prepare(image.transpose(Image.Transpose.ROTATE_90))

    def find_region(self, width: int, height: int) -> Region:
        """Return what the input shows of the turned image."""
        return self.rule.find_region(height, width)


def find_turned_rule(rule: Preprocessing) -> QuarterTurned | None:
    """Return the preprocessing of the turned image, or None if the turned input is the same.

    Every preprocessing keeps the middle of an image, and treats both directions alike. So one
    whose input is square commutes with a quarter turn, and every one with mirroring and half turns.
    """
    height, width, _ = rule.shape
    return None if height == width else QuarterTurned(rule)


def orient_input(
    upright: NDArray[np.uint8],
    orientation: Orientation,
    turned: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return the input of the oriented image: ``(height, width, 3)`` uint8 in and out.

    ``turned`` is what ``find_turned_rule`` made of the image, if there is such a rule.
    """
    pixels, turns = upright, orientation.turns
    if turned is not None and turns % 2:
        pixels, turns = turned, turns - 1
    pixels = np.rot90(pixels, turns)
    return np.ascontiguousarray(pixels[:, ::-1] if orientation.mirrored else pixels)
