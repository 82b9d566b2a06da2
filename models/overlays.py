"""Draws the places that make two images alike over the images themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.transforms import Region

SIDE = 512  # pixels: the longer side of an overlay
_GAP = 8  # pixels between two overlays
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # luma of red, green, blue (BT.601)
_DIMMED = 0.75  # of the brightness of the grey picture
_STRONGEST = 0.7  # share of the colour at the warmest place
_COLOURS = np.array(  # from cold to warm, in equal steps
    [(0, 0, 60), (60, 0, 120), (200, 30, 60), (255, 140, 0), (255, 240, 60)], dtype=np.float32
)


@dataclass(frozen=True)
class Fitted:
    """Fits a whole image into a square of ``SIDE`` pixels, at its top left. A preprocessing."""

    min_side: int = SIDE
    converts_colours: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        return SIDE, SIDE, 3

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        canvas = Image.new("RGB", (SIDE, SIDE))
        canvas.paste(image.resize(fit_size(*image.size), Image.Resampling.BICUBIC, None, 3.0))
        return np.asarray(canvas)

    def find_region(self, width: int, height: int) -> Region:
        side = max(width, height)
        return Region(0, 0, side, side)


def fit_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of an image that is scaled so that the longer has ``SIDE``."""
    factor = SIDE / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def draw_overlay(
    picture: NDArray[np.uint8], grid: NDArray[np.float32], region: Region
) -> NDArray[np.uint8]:
    """Colour a picture ``(height, width, 3)`` by a grid, which lies over ``region`` in its pixels.

    The picture becomes grey. The warmest place has the largest value; one of 0 or less has no
    colour.
    """
    heat = _spread(grid, picture.shape[:2], region)
    steps = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(heat, steps, channel) for channel in _COLOURS.T], axis=-1)
    grey = (picture @ _GREY * _DIMMED)[..., None]
    share = _STRONGEST * np.sqrt(heat)[..., None]
    return (grey * (1 - share) + colours * share).round().astype(np.uint8)


def encode_png(pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return a PNG of one picture, or of several side by side."""
    height = max(each.shape[0] for each in pictures)
    width = sum(each.shape[1] for each in pictures) + _GAP * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, height), "white")
    left = 0
    for each in pictures:
        canvas.paste(Image.fromarray(each), (left, (height - each.shape[0]) // 2))
        left += each.shape[1] + _GAP
    output = io.BytesIO()
    canvas.save(output, "PNG", compress_level=1)
    return output.getvalue()


def _spread(
    grid: NDArray[np.float32], size: tuple[int, int], region: Region
) -> NDArray[np.float32]:
    """Return ``(height, width)`` float32 from 0 to 1: the grid, smoothly, and 0 outside of it."""
    largest = float(grid.max())
    positive = np.clip(grid, 0, None) / largest if largest > 0 else np.zeros_like(grid)
    left, top = round(region.x), round(region.y)
    sides = max(1, round(region.width)), max(1, round(region.height))
    smooth = Image.fromarray(positive).resize(sides, Image.Resampling.BICUBIC)
    canvas = Image.new("F", (size[1], size[0]))
    canvas.paste(smooth, (left, top))
    heat: NDArray[np.float32] = np.clip(np.asarray(canvas), 0, 1)
    return heat
