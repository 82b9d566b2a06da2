"""Small files that would take hours to decode are rejected before they are decoded."""

from __future__ import annotations

import io
import struct
import zlib

import pytest

from models.file_structure import (
    MAX_CHUNKS,
    MAX_SCANS,
    MAX_SEGMENTS,
    TooManyPieces,
    check_structure,
)
from models.imaging import ImageRejected, decode_image
from tests.support.images import PHOTOGRAPHS, encoded, photograph

JPEG = encoded(photograph("coffee"), progressive=True)
PNG = encoded(photograph("coffee"), "PNG")


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def bomb(kind: str) -> bytes:
    if kind == "scans":  # the last scan, repeated
        last = JPEG[JPEG.rindex(b"\xff\xda") : -2]
        return JPEG[:-2] + last * MAX_SCANS + JPEG[-2:]
    if kind == "scans behind markers without a length":
        last = JPEG[JPEG.rindex(b"\xff\xda") : -2]
        return JPEG[:-2] + (b"\xff\x01" + last) * MAX_SCANS + JPEG[-2:]
    if kind == "segments":
        return JPEG[:2] + b"\xff\xe5\x00\x02" * MAX_SEGMENTS + JPEG[2:]
    return PNG[:33] + chunk(b"prVt", b"") * MAX_CHUNKS + PNG[33:]


@pytest.mark.parametrize(
    "kind", ["scans", "scans behind markers without a length", "segments", "chunks"]
)
def test_too_many_pieces_are_rejected(kind: str) -> None:
    with pytest.raises(TooManyPieces, match=kind.split(maxsplit=1)[0]):
        check_structure(io.BytesIO(bomb(kind)))
    with pytest.raises(ImageRejected, match=kind.split(maxsplit=1)[0]) as caught:
        decode_image(io.BytesIO(bomb(kind)), min_side=224)
    assert caught.value.code == "invalid-image"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(
    ("format", "progressive"), [("JPEG", False), ("JPEG", True), ("PNG", False), ("WEBP", False)]
)
def test_real_files_pass_and_are_rewound(name: str, format: str, progressive: bool) -> None:
    file = io.BytesIO(
        encoded(photograph(name), format, **({"progressive": True} if progressive else {}))
    )
    check_structure(file)
    assert file.tell() == 0
    assert decode_image(file, min_side=224).width == photograph(name).width


def test_more_transparency_entries_than_colours_are_invalid() -> None:
    """Pillow detects the error only when it converts the colours."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 3, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 9 * 8))
    content = (
        PNG[:8]
        + head
        + chunk(b"PLTE", b"\1\2\3" * 4)
        + chunk(b"tRNS", b"\x80" * 300)
        + pixels
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageRejected) as caught:
        decode_image(io.BytesIO(content), min_side=224)
    assert caught.value.code == "invalid-image"
