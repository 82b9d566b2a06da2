"""What is made of one image file: inputs of networks, its metadata, or a thumbnail."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.capture.reading import read_capture
from models.capture.values import Capture
from models.imaging import ACCEPTANCE, Acceptance, Box, decode_image, inspect_image
from models.pixels import free_pixels
from models.transforms import Preprocessing

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class DecodeJob:
    """What to make of a file: an input for each rule from the part of the image in ``box``.

    Or, if ``thumbnail`` is not None, an upright JPEG of at most that many pixels a side.
    ``capture`` reads the capture metadata, with the position only if ``keep_gps``.
    ``skip_pixels`` makes nothing else, and finds no damage in the pixels.
    """

    rules: tuple[Preprocessing, ...] = ()
    box: Box | None = None
    thumbnail: int | None = None
    capture: bool = False
    keep_gps: bool = True
    skip_pixels: bool = False
    accept: Acceptance = ACCEPTANCE


@dataclass(frozen=True)
class DecodedFile:
    """What a job made of a file; width and height are those of the upright original."""

    mime: str
    extension: str  # without a dot
    width: int  # pixels
    height: int
    inputs: Mapping[Preprocessing, NDArray[np.uint8]]  # (height, width, 3) RGB
    thumbnail: bytes = b""  # JPEG
    capture: Capture | None = None  # {} if the file has none, None if it was not asked for
    warnings: tuple[str, ...] = ()  # those of ``models.imaging.DecodedImage``


def run_job(
    file: BinaryIO, job: DecodeJob, admit: Callable[[int], None] | None = None
) -> DecodedFile:
    """Decode the whole file in this process. ``admit`` is that of ``decode_image``.

    Raises ImageRejected.
    """
    if job.thumbnail is not None:
        return _make_thumbnail(file, job, job.thumbnail, admit)
    read = partial(read_capture, keep_gps=job.keep_gps) if job.capture else None
    if read is not None and job.skip_pixels:
        seen = inspect_image(file, read, admit, job.accept)
        return DecodedFile(
            seen.mime, seen.extension, seen.width, seen.height, {}, capture=seen.capture
        )
    return _make_inputs(file, job, read, admit)


def _make_inputs(
    file: BinaryIO,
    job: DecodeJob,
    read: Callable[[Image.Image], Capture] | None,
    admit: Callable[[int], None] | None,
) -> DecodedFile:
    """Make the input for each rule. ``read`` reads the metadata; the first decode calls it."""
    inputs: dict[Preprocessing, NDArray[np.uint8]] = {}
    capture: Capture | None = None
    # A scaled decode changes pixels a little, so an encoder's input must not depend on which
    # others are loaded: there is one decode for each size. Where a profile converts the colours,
    # there is a second one for the encoders that ignore it.
    for side, converts in _list_decodes(job.rules):
        rules = [rule for rule in job.rules if rule.min_side == side and rule not in inputs]
        if job.rules and not rules:
            continue
        decoded = decode_image(
            file,
            min_side=side,
            box=job.box,
            admit=admit,
            convert_colours=converts,
            read_metadata=read,
            accept=job.accept,
        )
        if read is not None:
            capture, read = decoded.capture, None  # once is enough
        for rule in rules:
            if rule.converts_colours == converts or not decoded.colours_converted:
                inputs[rule] = rule.prepare(decoded.image)
        free_pixels(decoded.image)  # before the next one is decoded
    size = decoded.width, decoded.height
    return DecodedFile(
        decoded.mime,
        decoded.extension,
        *size,
        inputs,
        capture=capture,
        warnings=decoded.warnings,
    )


def _list_decodes(rules: tuple[Preprocessing, ...]) -> list[tuple[int, bool]]:
    """List the sizes that rules need, each with whether colours are converted, largest first."""
    needs = {(rule.min_side, rule.converts_colours) for rule in rules}
    return sorted(needs, reverse=True) or [(1, False)]


def _make_thumbnail(
    file: BinaryIO, job: DecodeJob, side: int, admit: Callable[[int], None] | None
) -> DecodedFile:
    """Make a JPEG without metadata, whose longer side has at most ``side`` pixels."""
    decoded = decode_image(file, min_side=side, admit=admit, accept=job.accept)
    image = decoded.image
    image.thumbnail((side, side))
    image.info.clear()  # Pillow would write comments into the JPEG
    output = io.BytesIO()
    image.save(output, "JPEG", quality=_JPEG_QUALITY)
    size = decoded.width, decoded.height
    return DecodedFile(decoded.mime, decoded.extension, *size, {}, output.getvalue())
