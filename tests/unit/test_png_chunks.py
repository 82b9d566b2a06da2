"""PNG files with metadata that viewers skip are decoded; damaged pixels never are."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from models.formats import png as png_chunks
from models.imaging import ImageRejected, decode_image
from tests.support.images import encoded, photograph
from tests.support.png import chunk, packed_rows, png

ROWS = np.asarray(photograph("coffee").resize((60, 40)))
PACKED = packed_rows(ROWS)
LONG = zlib.compress(os.urandom(1000) * 3000)  # 3 MB
BOMB = zlib.compress(b"x" * 100_000_000)


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode_image(io.BytesIO(content), min_side=100).image)


def with_wrong_checksum(kind: bytes, body: bytes) -> bytes:
    return chunk(kind, body)[:-4] + b"\0\0\0\0"


SKIPPED = {
    "3 MB of XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "a text of 3 MB": chunk(b"zTXt", b"Comment\0\0" + LONG),
    "a profile of 3 MB": chunk(b"iCCP", b"profile\0\0" + LONG),
    "a bomb in a text": chunk(b"zTXt", b"Comment\0\0" + BOMB),
    "a bomb in an international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
    "a bomb in a profile": chunk(b"iCCP", b"profile\0\0" + BOMB),
    "100 MB of texts": chunk(b"tEXt", b"Comment\0" + b"x" * 10_000_000) * 10,
    "a wrong checksum of a text": with_wrong_checksum(b"tEXt", b"Comment\0text"),
    "a wrong checksum of a time": with_wrong_checksum(b"tIME", bytes(7)),
    "a wrong checksum of transparency": with_wrong_checksum(b"tRNS", bytes(6)),
    "an unknown compression of a profile": chunk(b"iCCP", b"profile\0\7" + LONG),
    "an unknown compression of a text": chunk(b"zTXt", b"Comment\0\7text"),
    "a profile without content": chunk(b"iCCP", b""),
    "a short gamma": chunk(b"gAMA", b"\0"),
    "short primaries": chunk(b"cHRM", b"\0" * 8),
    "an empty intent": chunk(b"sRGB", b""),
    "a short density": chunk(b"pHYs", b"\0\1"),
    "short transparency": chunk(b"tRNS", b"\0\1"),
    "a text named like an entry of Pillow": chunk(b"tEXt", b"transparency\0x")
    + chunk(b"tEXt", b"interlace\0x"),
    "no frames": chunk(b"acTL", bytes(8)),
    "a short number of frames": chunk(b"acTL", bytes(2)),
    "more frames than there are": chunk(b"acTL", struct.pack(">II", 1000, 0)),
    "a billion frames": chunk(b"acTL", struct.pack(">II", 1 << 30, 0)),
    "two numbers of frames": chunk(b"acTL", struct.pack(">II", 2, 0)) * 2,
    "a frame larger than the picture": chunk(b"acTL", struct.pack(">II", 2, 0))
    + chunk(b"fcTL", struct.pack(">5I2H2B", 0, 99, 99, 0, 0, 1, 1, 0, 0)),
    "a frame with a wrong number": chunk(b"acTL", struct.pack(">II", 2, 0))
    + chunk(b"fcTL", struct.pack(">5I2H2B", 7, 60, 40, 0, 0, 1, 1, 0, 0)),
}


@pytest.mark.parametrize("place", ["ahead", "behind"])
@pytest.mark.parametrize("name", SKIPPED)
def test_a_chunk_that_viewers_skip_is_skipped(name: str, place: str) -> None:
    content = png(60, 40, PACKED, colour=2, **{place: SKIPPED[name]})
    assert np.array_equal(decoded(content), ROWS)


def test_frames_behind_the_picture_are_skipped() -> None:
    frame = chunk(b"fcTL", bytes(26)) + chunk(b"fdAT", b"\0\0\0\1damaged")
    content = png(60, 40, PACKED, colour=2, ahead=chunk(b"acTL", b"\0\0\0\2" * 2), behind=frame)
    assert np.array_equal(decoded(content), ROWS)


def test_more_transparency_entries_than_colours_are_ignored() -> None:
    colours = chunk(b"PLTE", b"\1\2\3" * 4) + chunk(b"tRNS", b"\x80" * 300)
    content = png(8, 8, packed_rows(np.zeros((8, 8), np.uint8)), colour=3, ahead=colours)
    assert decoded(content)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("colour", [4, 6], ids=["grey with alpha", "colours with alpha"])
def test_transparency_beside_an_alpha_channel_is_ignored(colour: int) -> None:
    rows = np.full((8, 8, 2 if colour == 4 else 4), 255, np.uint8)
    content = png(8, 8, packed_rows(rows), colour=colour, ahead=chunk(b"tRNS", b"\0\xff" * 3))
    assert decoded(content)[0, 0].tolist() == [255, 255, 255]


def test_needed_chunks_are_kept() -> None:
    kept = chunk(b"gAMA", b"\0\0\xb1\x8f") + chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile"))
    kept += chunk(b"tRNS", bytes(6)) + chunk(b"eXIf", b"MM\0*")
    file = io.BytesIO(png(60, 40, PACKED, colour=2, ahead=kept + SKIPPED["no frames"]))
    assert png_chunks.select_chunks(file).read() == png(60, 40, PACKED, colour=2, ahead=kept)


def test_a_file_of_needed_chunks_is_not_copied() -> None:
    file = io.BytesIO(png(60, 40, PACKED, colour=2))
    file.seek(50)
    assert png_chunks.select_chunks(file) is file
    assert file.tell() == 0


@pytest.mark.parametrize("place", ["ahead", "behind"])
def test_too_many_chunks_are_refused(place: str) -> None:
    chunks = chunk(b"prVt", b"") * png_chunks.MAX_CHUNKS
    with pytest.raises(ImageRejected, match="chunks") as caught:
        decoded(png(60, 40, PACKED, colour=2, **{place: chunks}))
    assert caught.value.code == "invalid-image"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_wrong_checksum_of_a_critical_chunk_is_refused(kind: bytes) -> None:
    content = bytearray(encoded(photograph("coffee").quantize(), "PNG"))
    start = content.index(kind)
    (length,) = struct.unpack(">I", content[start - 4 : start])
    content[start + 4 + length] ^= 0xFF
    with pytest.raises(ImageRejected, match="checksum") as caught:
        decoded(bytes(content))
    assert caught.value.code == "invalid-image"
