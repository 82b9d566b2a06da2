"""Decodes images of unknown origin: returns an upright RGB image or raises ImageRejected.

Every upload, sample and training image passes through ``decode_image``; nothing else opens files
with Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from models.capture.values import Capture
from models.colour import find_conversion
from models.opening import (
    ACCEPTANCE,
    ANYTHING,
    FORMATS,
    MAX_PIXELS,
    Acceptance,
    ImageRejected,
    OpenedImage,
    guard,
    open_image,
)
from models.pixels import is_on_its_side, memory_per_pixel, read_orientation, turn_upright

__all__ = [
    "ACCEPTANCE",
    "ANYTHING",
    "FORMATS",
    "MAX_PIXELS",
    "TRUNCATED",
    "Acceptance",
    "Box",
    "DecodedImage",
    "ImageRejected",
    "decode_image",
    "inspect_image",
]
TRUNCATED = "truncated"  # a warning: pixels or their details are missing at the end of the file


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright image; ``x`` and ``y`` are its left and top edges."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and what is known about its file.

    ``image`` is RGB, upright, cropped to the requested box if any, and possibly smaller than the
    original. ``width`` and ``height`` are those of the whole upright original, in pixels.
    ``capture`` is what was read of its metadata, or None if nothing was to be read. ``warnings``
    has ``TRUNCATED`` or nothing. ``colours_converted`` says whether a colour profile changed the
    pixels.
    """

    image: Image.Image
    mime: str
    extension: str
    width: int
    height: int
    capture: Capture | None = None
    warnings: tuple[str, ...] = ()
    colours_converted: bool = False


def decode_image(
    file: BinaryIO,
    *,
    min_side: int,
    box: Box | None = None,
    admit: Callable[[int], None] | None = None,
    convert_colours: bool = True,
    read_metadata: Callable[[Image.Image], Capture] | None = None,
    accept: Acceptance = ACCEPTANCE,
) -> DecodedImage:
    """Decode a file from its start and turn the image upright.

    Every pixel is decoded, so damage anywhere is detected. The shorter side of the result has at
    least ``min_side`` pixels if the original has them; within that limit a JPEG is decoded at
    1/2, 1/4 or 1/8 of its size, which is several times faster. ``admit`` is called with an estimate
    of the memory in bytes before any pixel is decoded, and may raise. ``convert_colours`` converts
    the colours by the image's profile, as a browser does; without it the profile is ignored.
    ``read_metadata`` is called with the loaded image before it is turned. Raises ImageRejected.
    """
    opened = open_image(file, accept, admit)
    image, size = opened.image, opened.image.size
    coefficients = opened.coefficients
    mime, extension = FORMATS[image.format or ""]
    shorter = min(box.width, box.height) if box else min(size)
    scale = min(1.0, min_side / max(1, shorter))
    orientation = read_orientation(image)
    image.draft("RGB", (math.ceil(size[0] * scale), math.ceil(size[1] * scale)))
    if admit is not None:
        admit(coefficients + math.prod(image.size) * memory_per_pixel(image))

    def load() -> tuple[Image.Image, Capture | None, bool]:
        image.load()
        capture = None if read_metadata is None else read_metadata(image)
        conversion = find_conversion(image) if convert_colours else None
        upright = turn_upright(image, orientation, conversion)
        return upright, capture, conversion is not None

    pixels, capture, converted = guard(load)
    width, height = size[::-1] if is_on_its_side(orientation) else size
    if box is not None:
        _check_box(box, width, height)
        pixels = _crop(pixels, box, width, height)
    warnings = _list_warnings(opened)
    return DecodedImage(pixels, mime, extension, width, height, capture, warnings, converted)


def inspect_image(
    file: BinaryIO,
    read_metadata: Callable[[Image.Image], Capture],
    admit: Callable[[int], None] | None = None,
    accept: Acceptance = ACCEPTANCE,
) -> DecodedImage:
    """Check a file as ``decode_image`` does, and read its metadata, without decoding its pixels.

    Those of a PNG are decoded, because metadata may follow them. The image that is returned is not
    usable. Raises ImageRejected.
    """
    opened = open_image(file, accept, admit)
    image, orientation = opened.image, read_orientation(opened.image)
    if image.format == "PNG":
        if admit is not None:
            admit(math.prod(image.size) * memory_per_pixel(image))
        guard(image.load)
    mime, extension = FORMATS[image.format or ""]
    width, height = image.size[::-1] if is_on_its_side(orientation) else image.size
    capture, warnings = read_metadata(image), _list_warnings(opened)
    return DecodedImage(image, mime, extension, width, height, capture, warnings)


def _list_warnings(opened: OpenedImage) -> tuple[str, ...]:
    return (TRUNCATED,) if opened.is_truncated else ()


def _crop(pixels: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """Crop to a box that is given in pixels of the original ``width`` and ``height``."""
    x, y = pixels.width / width, pixels.height / height
    return pixels.crop(
        (
            math.floor(box.x * x),
            math.floor(box.y * y),
            min(pixels.width, math.ceil((box.x + box.width) * x)),
            min(pixels.height, math.ceil((box.y + box.height) * y)),
        )
    )


def _check_box(box: Box, width: int, height: int) -> None:
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise ImageRejected(
            "invalid-box",
            f"The box {box.x},{box.y},{box.width},{box.height} (x,y,width,height) is empty or does"
            f" not lie inside the upright image of {width} x {height} pixels. Choose a box that"
            " does.",
        )
