"""Finds out how much of a JPEG file without its end is missing.

Such a file does not say how long it was. Two kinds of filler behind its last byte are decoded to
different pixels, and the first of these tells how far its own data reach.
"""

from __future__ import annotations

import io
import random
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from models.formats.faults import Damaged
from models.formats.jpeg import Structure

_MEASURED = 0.02  # of the file: twice what may be missing, because pixels take uneven space
_MOST_PIXELS = 0.05  # that these bytes may show, unless another scan shows them too
_LARGE = 16_000_000  # pixels, of which one block is a tiny share
_PAGE = 4096  # bytes
_END = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_ANY_BYTES = bytes(random.Random(1).choices(range(255), k=256))  # noqa: S311 - no secret


@dataclass(frozen=True)
class CompletedJpeg:
    """A file that was given an end. ``truncated`` tells whether pixels or details are missing."""

    content: bytes
    truncated: bool


def complete_jpeg(content: bytes, structure: Structure) -> CompletedJpeg:
    """Give an end to a file that has none. Raises Damaged if more than its last 1 % is missing.

    What the file itself still has of its last 1 % is the measure: if the missing part of the
    picture is larger than what that many bytes show, more is missing. In a progressive file, that
    is the part that lacks the details of the last scan; it may lack no whole scan.
    """
    content = _strip_padding(content)
    if not structure.has_all_scans:
        raise Damaged("it ends before its last pixel")
    whole = _decode(content + _END, structure)
    end, units = _count_equal_units(whole, _decode(_fill(content, structure), structure), structure)
    if end < units:
        shorter = content[: -max(1, round(len(content) * _MEASURED))].rstrip(b"\xff")
        start = 0
        if len(shorter) > structure.last_scan_start:
            other = _decode(_fill(shorter, structure), structure)
            start, _ = _count_equal_units(whole, other, structure)
        most = units if structure.is_progressive else max(1, round(units * _MOST_PIXELS))
        if units - end > min(most, end - start + 1):  # the last unit is there in part
            raise Damaged("it ends before its last pixel")
    return CompletedJpeg(content + _END, truncated=end < units)


def estimate_memory(width: int, height: int, structure: Structure) -> int:
    """Return the bytes that the comparison takes, without the coefficients that libjpeg keeps."""
    scale = _scale(width, height, structure)
    return (width // scale + 1) * (height // scale + 1) * 4 * 4


def _strip_padding(content: bytes) -> bytes:
    """Remove the empty pages that a download which broke off may have left, and half a marker."""
    stripped = content.rstrip(b"\0")
    if len(content) - len(stripped) < _PAGE:  # a few zeros may be pixels
        stripped = content
    return stripped.rstrip(b"\xff")


def _fill(content: bytes, structure: Structure) -> bytes:
    """Return the file with bytes of any kind behind it, which are taken for pixels."""
    restarts = _RESTART.findall(content, structure.last_scan_start)
    following = (restarts[-1][1] - 0xD0 + 1) % 8 if restarts else 0
    # If the data end where a restart marker is due, the decoder skips whatever comes before it.
    restart = bytes([0xFF, 0xD0 + following])
    return content + _ANY_BYTES + restart + _ANY_BYTES + _END


def _scale(width: int, height: int, structure: Structure) -> int:
    """Return by how much the compared images are scaled down.

    At 1/8, only the mean of each block is compared, which no scan but the first changes. At 1/1,
    channels of less resolution would be smoothed beyond their block.
    """
    return 8 if width * height > _LARGE and not structure.is_progressive else 2


def _decode(content: bytes, structure: Structure) -> NDArray[np.uint8]:
    image = JpegImagePlugin.jpeg_factory(io.BytesIO(content), "")
    scale = _scale(*image.size, structure)
    image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    image.load()
    return np.asarray(image).reshape(image.height, image.width, -1)


def _count_equal_units(
    one: NDArray[np.uint8], other: NDArray[np.uint8], structure: Structure
) -> tuple[int, int]:
    """Return how many units of the last scan precede the first difference, and how many it has."""
    scale = _scale(*structure.size, structure)
    width, height = (max(1, side // scale) for side in structure.unit)
    across, down = -(-one.shape[1] // width), -(-one.shape[0] // height)
    for row in range(down):
        strip = slice(row * height, (row + 1) * height)
        (columns,) = (one[strip] != other[strip]).any(axis=(0, 2)).nonzero()
        if len(columns):
            return row * across + int(columns[0]) // width, across * down
    return across * down, across * down
