"""JPEG XL files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.support.image_cases.case import (
    Case,
    cut,
    frames,
    half_clear,
    half_white,
    picture,
    turned_picture,
)


def _encoded(mode: str = "RGB", **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        from tests.support.jpeg_xl import jpeg_xl

        return jpeg_xl(picture(mode), **options)

    return make


def _pixels(kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        from tests.support.jpeg_xl import jpeg_xl_of_pixels

        pixels = np.asarray(picture())
        changed = pixels.astype("u2") * 257 if kind == "u2" else (pixels / 255).astype(kind)
        return jpeg_xl_of_pixels(changed, lossless=True)

    return make


def _transparent() -> bytes:
    from tests.support.jpeg_xl import jpeg_xl

    return jpeg_xl(half_clear(), lossless=True)


def _animated() -> bytes:
    from tests.support.jpeg_xl import jpeg_xl_of_pixels

    return jpeg_xl_of_pixels(np.stack([np.asarray(frame) for frame in frames()]), lossless=True)


def _turned(orientation: int) -> Callable[[], bytes]:
    def make() -> bytes:
        from tests.support.jpeg_xl import turned_jpeg_xl

        return turned_jpeg_xl(turned_picture(orientation), orientation)

    return make


def _grey() -> Image.Image:
    return picture("L").convert("RGB")


def _case(
    variant: str, make: Callable[[], bytes], result: str = "accepted", **options: object
) -> Case:
    return Case("JPEG XL", variant, make, result, extra="jxl", **options)  # type: ignore[arg-type]


CASES = [
    _case("lossy", _encoded(distance=0.5)),
    _case("lossless", _encoded(lossless=True), tolerance=0),
    _case("grey", _encoded("L", lossless=True), expected=_grey, tolerance=0),
    _case("in a container", _encoded(lossless=True, usecontainer=True), tolerance=0),
    _case("colours, 16 bits", _pixels("u2"), tolerance=1),
    _case("floats", _pixels("f4"), tolerance=1),
    _case("transparent", _transparent, expected=half_white, tolerance=1),
    _case("animated", _animated, tolerance=0, note="The first frame counts."),
    *(
        _case(
            "orientations 2 to 8",
            _turned(orientation),
            note="The image is turned upright.",
            file=str(orientation),
        )
        for orientation in range(2, 9)
    ),
    _case("truncated", cut(_encoded(distance=0.5), 0.8), "invalid-image"),
]
