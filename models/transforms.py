"""Preprocessing: an upright RGB image -> the network's input. Its id is part of the model version."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INPUT_SIDE = 224
PREPROCESSING_ID = "centre-square-224-bicubic-1"


def to_input(image: Image.Image) -> NDArray[np.uint8]:
    """The centre square as ``(224, 224, 3)`` uint8 RGB; normalising by mean and deviation is the network's first step."""
    width, height = image.size
    side = min(width, height)
    left, top = (
        (width - side) / 2,
        (height - side) / 2,
    )  # half pixels are fine: a mirrored image gives the mirrored square
    square = image.resize(
        (INPUT_SIDE, INPUT_SIDE),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )
    return np.asarray(square)


def mirrored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same input seen in a mirror, ``(224, 224, 3)`` uint8."""
    return np.ascontiguousarray(pixels[:, ::-1])
