"""Refusals say the cause in plain words, whatever Pillow says."""

from __future__ import annotations

import io
import re
import struct

import numpy as np
import pytest

from models.imaging import ImageRejected, decode_image
from tests.support.images import encoded, photograph
from tests.support.png import packed_rows, png

SMALL = photograph("coffee").resize((96, 64))


def refusal(content: bytes) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_image(io.BytesIO(content), min_side=64)
    return caught.value


def avif_of(width: int, height: int) -> bytes:
    """Return an AVIF image that claims another size than that of its pixels."""
    content = encoded(SMALL, "AVIF")
    claimed = struct.pack(">4sIII", b"ispe", 0, *SMALL.size)
    assert claimed in content
    return content.replace(claimed, struct.pack(">4sIII", b"ispe", 0, width, height))


def webp_of(width: int, height: int) -> bytes:
    content = bytearray(encoded(SMALL, "WEBP", exif=b"Exif\0\0MM\0*"))
    assert content[12:16] == b"VP8X"
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [avif_of(17_000, 17_000), avif_of(40_000, 30_000), webp_of(17_000, 17_000)],
    ids=["AVIF", "larger AVIF", "WebP"],
)
def test_more_pixels_than_a_decoder_opens_are_too_many(content: bytes) -> None:
    error = refusal(content)
    assert error.code == "too-many-pixels"
    assert re.search(r"\d{5} x \d{5} pixels", str(error))


CAUSES = {
    "a short PNG": (encoded(SMALL, "PNG")[:-300], "it ends before"),
    "a short JPEG": (encoded(SMALL, "JPEG")[:-300], "it ends before"),
    "half a header of a JPEG": (encoded(SMALL, "JPEG")[:300], "it ends before"),
    "a short GIF": (encoded(SMALL, "GIF")[:-300], "it ends before"),
    "a short BMP": (encoded(SMALL, "BMP")[:-300], "it ends before"),
    "half an AVIF": (encoded(SMALL, "AVIF")[:300], "damaged"),
    "half a WebP": (encoded(SMALL, "WEBP")[:300], "damaged"),
    "no deflated data": (png(96, 64, b"not deflated", colour=2), "damaged"),
    "an unknown depth": (png(8, 8, packed_rows(np.zeros((8, 8), np.uint8)), depth=5), "damaged"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_refusal_says_the_cause(name: str) -> None:
    content, cause = CAUSES[name]
    error = refusal(content)
    assert error.code == "invalid-image"
    assert cause in str(error)


def test_no_refusal_contains_a_repr() -> None:
    messages = set()
    for content in [encoded(SMALL, name) for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF")]:
        for cut in range(1, len(content), max(1, len(content) // 60)):
            for changed in (content[:cut], content[:cut] + bytes(8) + content[cut + 8 :]):
                try:
                    decode_image(io.BytesIO(changed), min_side=64)
                except ImageRejected as error:
                    messages.add(str(error))
    assert len(messages) > 3
    for message in messages:
        assert not re.search(r"<|0x|b'|\\x|object|Error", message), message
