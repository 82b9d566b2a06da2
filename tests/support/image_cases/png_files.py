"""PNG files."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.support.image_cases.case import (
    Case,
    cut,
    half_clear,
    half_white,
    picture,
    saved,
    turned_cases,
)
from tests.support.png import chunk, packed_rows, png


def _as(mode: str) -> Callable[[], Image.Image]:
    return lambda: picture(mode).convert("RGB")


def _deep(mode: str) -> Callable[[], bytes]:
    """Return a function that makes a PNG of 16 bits; the lower 8 are noise."""

    def make() -> bytes:
        rows = np.asarray(picture(mode)).astype(np.uint16) * 256
        rows += np.random.default_rng(1).integers(0, 256, rows.shape, np.uint16)
        height, width = rows.shape[:2]
        colour = {"L": 0, "RGB": 2, "RGBA": 6}[mode]
        return png(width, height, packed_rows(rows.astype(">u2")), depth=16, colour=colour)

    return make


def _clear_entries() -> bytes:
    from tests.support.images import encoded

    return encoded(half_clear().quantize(200, method=Image.Quantize.FASTOCTREE), "PNG")


def _transparent() -> bytes:
    from tests.support.images import encoded

    return encoded(half_clear(), "PNG")


def _with_a_wrong_checksum() -> bytes:
    content = bytearray(saved("PNG")())
    start = content.index(b"IDAT")
    content[start + 4 + int.from_bytes(content[start - 4 : start])] ^= 0xFF
    return bytes(content)


def _with(metadata: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return a function that makes a PNG with further chunks behind its header."""
    return lambda: (content := saved("PNG")())[:33] + metadata() + content[33:]


_METADATA: dict[str, Callable[[], bytes]] = {
    "XMP of 3 MB": lambda: chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))
    ),
    "a text that unpacks to 100 MB": lambda: chunk(
        b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 1)
    ),
    "a wrong checksum": lambda: chunk(b"tIME", bytes(7))[:-4] + b"\xff" * 4,
    "a wrong number of frames": lambda: chunk(b"acTL", bytes(2)),
}


def _of_many_chunks() -> bytes:
    rows = packed_rows(np.zeros((8, 8), np.uint8))
    return png(8, 8, rows, ahead=chunk(b"teSt", b"") * 30_000)


CASES = [
    Case("PNG", "1 bit", saved("PNG", "1"), expected=_as("1"), tolerance=0),
    Case("PNG", "grey", saved("PNG", "L"), expected=_as("L"), tolerance=0),
    Case("PNG", "grey, 16 bits", _deep("L"), expected=_as("L"), tolerance=1),
    Case("PNG", "palette", saved("PNG", "P"), expected=_as("P"), tolerance=0),
    Case("PNG", "colours", saved("PNG"), tolerance=0),
    Case("PNG", "colours, 16 bits", _deep("RGB"), tolerance=1),
    Case("PNG", "palette with transparent entries", _clear_entries, expected=half_white),
    Case(
        "PNG",
        "transparent",
        _transparent,
        expected=half_white,
        tolerance=0,
        note="Transparency becomes white.",
    ),
    Case("PNG", "animated", saved("PNG", frames_of=3), note="The first frame counts."),
    *turned_cases("PNG"),
    Case("PNG", "truncated", cut(saved("PNG"), 0.8), "invalid-image"),
    Case("PNG", "wrong checksum of the pixels", _with_a_wrong_checksum, "invalid-image"),
    *[
        Case(
            "PNG",
            "damaged or oversized metadata",
            _with(metadata),
            tolerance=0,
            note="The metadata is ignored.",
            file=file,
        )
        for file, metadata in _METADATA.items()
    ],
    Case("PNG", "more than 20,000 chunks", _of_many_chunks, "invalid-image"),
]
