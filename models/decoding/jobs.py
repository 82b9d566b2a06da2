"""What is made of one image file: inputs of networks, or a thumbnail."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.imaging import Box, decode_image
from models.pixels import free_pixels
from models.transforms import Preprocessing

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class DecodeJob:
    """What to make of a file: an input for each rule from the part of the image in ``box``.

    Or, if ``thumbnail`` is not None, an upright JPEG of at most that many pixels a side.
    """

    rules: tuple[Preprocessing, ...] = ()
    box: Box | None = None
    thumbnail: int | None = None


@dataclass(frozen=True)
class DecodedFile:
    """What a job made of a file; width and height are those of the upright original."""

    mime: str
    extension: str  # without a dot
    width: int  # pixels
    height: int
    inputs: Mapping[Preprocessing, NDArray[np.uint8]]  # (height, width, 3) RGB
    thumbnail: bytes = b""  # JPEG


def run_job(
    file: BinaryIO, job: DecodeJob, admit: Callable[[int], None] | None = None
) -> DecodedFile:
    """Decode the whole file in this process. ``admit`` is that of ``decode_image``.

    Raises ImageRejected.
    """
    if job.thumbnail is not None:
        return _make_thumbnail(file, job.thumbnail, admit)
    inputs: dict[Preprocessing, NDArray[np.uint8]] = {}
    # A scaled decode changes pixels a little, so an encoder's input must not depend on which
    # others are loaded: there is one decode for each size.
    for side in {rule.min_side for rule in job.rules} or {1}:
        decoded = decode_image(file, min_side=side, box=job.box, admit=admit)
        for rule in job.rules:
            if rule.min_side == side:
                inputs[rule] = rule.prepare(decoded.image)
        free_pixels(decoded.image)  # before the next one is decoded
    return DecodedFile(decoded.mime, decoded.extension, decoded.width, decoded.height, inputs)


def _make_thumbnail(file: BinaryIO, side: int, admit: Callable[[int], None] | None) -> DecodedFile:
    """Make a JPEG without metadata, whose longer side has at most ``side`` pixels."""
    decoded = decode_image(file, min_side=side, admit=admit)
    image = decoded.image
    image.thumbnail((side, side))
    image.info.clear()  # Pillow would write comments into the JPEG
    output = io.BytesIO()
    image.save(output, "JPEG", quality=_JPEG_QUALITY)
    size = decoded.width, decoded.height
    return DecodedFile(decoded.mime, decoded.extension, *size, {}, output.getvalue())
