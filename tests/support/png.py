"""PNG files, put together from their chunks."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    packed: bytes,
    *,
    depth: int = 8,
    colour: int = 0,
    ahead: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """Make a PNG with the deflated rows ``packed``, and further chunks before and after them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + ahead
        + chunk(b"IDAT", packed)
        + behind
        + chunk(b"IEND", b"")
    )


def packed_rows(rows: NDArray[np.generic]) -> bytes:
    """Deflate the rows of an image, without a filter."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
