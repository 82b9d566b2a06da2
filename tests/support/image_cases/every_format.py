"""Files whose size or type is the reason why they are refused."""

from __future__ import annotations

import zlib

from PIL import Image

from tests.support.image_cases.case import Case
from tests.support.png import png


def _too_large() -> bytes:
    """Make a black PNG of 8100 x 8100 pixels of one bit."""
    row = bytes(1 + 8104 // 8)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(8100)) + packer.flush()
    return png(8100, 8100, packed, depth=1)


def _too_long() -> bytes:
    from tests.support.images import encoded

    return encoded(Image.new("L", (1010, 10)), "PNG")


CASES = [
    Case("Every format", "no bytes", bytes, "empty-file"),
    Case("Every format", "more than 64 megapixels", _too_large, "too-many-pixels"),
    Case("Every format", "one side over 100 times the other", _too_long, "bad-aspect-ratio"),
    Case(
        "Every format", "SVG, PDF, ICO and others", lambda: b"<svg/>" * 9, "unsupported-image-type"
    ),
]
