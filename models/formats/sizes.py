"""Reads the size that a file claims, for those that their decoder refuses to open."""

from __future__ import annotations

import re

# The property "image spatial extents" of an item (ISO/IEC 23008-12, 6.5.3): a version, flags,
# width and height.
_EXTENTS = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)


def find_claimed_size(kind: str, content: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels, or None if the file does not say them.

    ``content`` is the beginning of a WebP, AVIF or HEIC file, up to 1 MiB.
    """
    if kind == "WEBP":
        return _read_webp_size(content)
    sizes = [
        (int.from_bytes(width), int.from_bytes(height))
        for width, height in _EXTENTS.findall(content)
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _read_webp_size(content: bytes) -> tuple[int, int] | None:
    """Return the size of the canvas, by the container specification of WebP."""
    coding = content[12:16]
    if coding == b"VP8X":
        return _read_number(content[24:27]) + 1, _read_number(content[27:30]) + 1
    if coding == b"VP8L":
        sides = _read_number(content[21:25])
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    if coding == b"VP8 ":
        return _read_number(content[26:28]) & 0x3FFF, _read_number(content[28:30]) & 0x3FFF
    return None


def _read_number(content: bytes) -> int:
    return int.from_bytes(content, "little")
