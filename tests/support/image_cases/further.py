"""WebP, GIF, BMP and AVIF files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from PIL import Image

from tests.support.image_cases.case import (
    Case,
    cut,
    half_clear,
    half_white,
    picture,
    saved,
    turned,
    turned_cases,
)


def _as(mode: str) -> Callable[[], Image.Image]:
    return lambda: picture(mode).convert("RGB")


def _transparent(format: str, **options: Any) -> Callable[[], bytes]:
    def save() -> bytes:
        from tests.support.images import encoded

        return encoded(half_clear(), format, **options)

    return save


def _with_masks() -> bytes:
    """Make a BMP of RGBX, an order of channels that Windows does not use by itself."""
    image = picture("RGBA")
    pixels = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()
    header = struct.pack("<IiiHHI20x3I", 40, *image.size, 1, 32, 3, 0xFF, 0xFF00, 0xFF0000)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def _with_a_jpeg() -> bytes:
    content = bytearray(saved("BMP")())
    content[30] = 4  # the compression BI_JPEG
    return bytes(content)


_WEBP = [
    Case("WebP", "lossy", saved("WEBP", quality=95)),
    Case("WebP", "lossless", saved("WEBP", lossless=True), tolerance=0),
    Case("WebP", "transparent", _transparent("WEBP", lossless=True), expected=half_white),
    Case("WebP", "animated", saved("WEBP", frames_of=3), note="The first frame counts."),
    Case(
        "WebP",
        "an EXIF orientation",
        turned("WEBP", 3, quality=95),
        expected=lambda: picture().transpose(Image.Transpose.ROTATE_180),
        note="It is ignored, as browsers do.",
    ),
    Case("WebP", "truncated", cut(saved("WEBP"), 0.8), "invalid-image"),
]
_GIF = [
    Case("GIF", "grey", saved("GIF", "L"), expected=_as("L")),
    Case("GIF", "palette", saved("GIF", "P"), expected=_as("P")),
    Case("GIF", "interlaced", saved("GIF", "P", interlace=1), expected=_as("P")),
    Case("GIF", "transparent", _transparent("GIF"), expected=half_white, tolerance=8),
    Case("GIF", "animated", saved("GIF", frames_of=3), tolerance=8, note="The first frame counts."),
    Case("GIF", "truncated", cut(saved("GIF", "P"), 0.8), "invalid-image"),
]
_BMP = [
    Case("BMP", "1 bit", saved("BMP", "1"), expected=_as("1"), tolerance=0),
    Case("BMP", "grey", saved("BMP", "L"), expected=_as("L"), tolerance=0),
    Case("BMP", "palette", saved("BMP", "P"), expected=_as("P"), tolerance=0),
    Case("BMP", "colours", saved("BMP"), tolerance=0),
    Case("BMP", "32 bits with masks", _with_masks, tolerance=0),
    Case("BMP", "a JPEG or PNG inside", _with_a_jpeg, "unsupported-image-type"),
    Case("BMP", "truncated", cut(saved("BMP"), 0.8), "invalid-image"),
]
_AVIF = [
    Case("AVIF", "colours, 4:2:0", saved("AVIF", quality=90, speed=10)),
    Case("AVIF", "colours, 4:4:4", saved("AVIF", quality=90, speed=10, subsampling="4:4:4")),
    Case("AVIF", "transparent", _transparent("AVIF", quality=90, speed=10), expected=half_white),
    Case(
        "AVIF",
        "animated",
        saved("AVIF", quality=90, frames_of=3, speed=10),
        note="The first frame counts.",
    ),
    *turned_cases("AVIF", quality=90, speed=10),
    Case("AVIF", "truncated", cut(saved("AVIF", speed=10), 0.8), "invalid-image"),
]
CASES = [*_WEBP, *_GIF, *_BMP, *_AVIF]
