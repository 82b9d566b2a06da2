"""JPEG XL files whose codestream says how the image is turned."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIGNATURE = 2  # bytes


def jpeg_xl(image: Image.Image, **options: object) -> bytes:
    """Encode an image, without a container unless the options ask for one."""
    return jpeg_xl_of_pixels(np.asarray(image), **{"usecontainer": False} | options)


def jpeg_xl_of_pixels(pixels: NDArray[np.generic], **options: object) -> bytes:
    """Encode (height, width, channels), or (frames, height, width, channels)."""
    return bytes(imagecodecs.jpegxl_encode(pixels, **options))


def turned_jpeg_xl(stored: Image.Image, orientation: int) -> bytes:
    """Encode an image of at most 256 pixels a side with an orientation (ISO/IEC 18181-1).

    An encoder writes one bit for "all of the header is as usual". It becomes a whole header.
    """
    content = jpeg_xl(stored, distance=0.5)
    bits = [
        byte >> place & 1 for byte in content[_SIGNATURE : _SIGNATURE + 4] for place in range(8)
    ]
    assert bits[0] == 1  # a small image
    size = bits[: 9 if any(bits[6:9]) else 14]
    usual = bits[len(size) : len(size) + 2]
    assert usual == [1, 1]
    turn = [(orientation - 1) >> place & 1 for place in range(3)]
    header = [*size, 0, 1, *turn, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1]
    frames = _SIGNATURE + -(-(len(size) + 2) // 8)
    return content[:_SIGNATURE] + _pack(header) + content[frames:]


def _pack(bits: list[int]) -> bytes:
    bits = bits + [0] * (-len(bits) % 8)
    groups = (bits[start : start + 8] for start in range(0, len(bits), 8))
    return bytes(sum(bit << place for place, bit in enumerate(group)) for group in groups)
