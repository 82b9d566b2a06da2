"""Broken and hostile metadata: the picture is accepted, and what can be read is kept."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from models.capture.limits import check_capture
from models.capture.reading import read_capture
from models.capture.xmp import MAX_PACKET
from models.decoding.jobs import DecodeJob
from models.decoding.pool import DecodeLimits, DecodePool
from models.decoding.turns import Purpose
from models.imaging import ImageRejected, decode_image, inspect_image
from tests.support.images import encoded
from tests.support.metadata import (
    PHONE_EXIF,
    PICTURE,
    iptc_record,
    jpeg_with,
    photoshop_segment,
    picture_with,
    raw_exif,
    segment,
    tiff_with,
    xmp_packet,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def capture_of(content: bytes) -> dict[str, Any]:
    decoded = decode_image(io.BytesIO(content), min_side=8, read_metadata=read_capture)
    assert decoded.image.size[0] >= 8
    inspected = inspect_image(io.BytesIO(content), read_capture)
    assert inspected.capture == decoded.capture
    assert (inspected.width, inspected.height) == (decoded.width, decoded.height)
    return check_capture(decoded.capture)


SIMPLE = xmp_packet("", 'xmp:Rating="4"')
LAUGHS = "".join(f'<!ENTITY l{level + 1} "{f"&l{level};" * 10}">' for level in range(9))
DOCTYPE = f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]>'
XML = {
    "nothing": b"",
    "noise": np.random.default_rng(1).bytes(500),
    "cut off": SIMPLE[:-40],
    "billion laughs": DOCTYPE.encode() + xmp_packet("<dc:rights>&l9;</dc:rights>"),
    "a file as an entity": b'<!DOCTYPE x [<!ENTITY l SYSTEM "file:///etc/passwd">]>'
    + xmp_packet("<dc:rights>&l;</dc:rights>"),
    "nested deep": xmp_packet("<a>" * 20_000 + "</a>" * 20_000),
    "no RDF": b"<x/>",
    "another encoding": b'<?xml version="1.0" encoding="utf-7"?><x/>',
}


@pytest.mark.parametrize("name", XML)
@pytest.mark.parametrize("format", ["WEBP", "AVIF"])
def test_a_hostile_packet_says_nothing(name: str, format: str) -> None:
    said = capture_of(picture_with(format, exif=PHONE_EXIF, xmp=XML[name]))
    assert said["camera"] == "Apple iPhone 12"
    assert not {"copyright", "rating"} & said.keys()


def test_a_packet_over_the_limit_is_not_parsed() -> None:
    packet = xmp_packet("", f'xmp:Rating="4" dc:format="{"x" * MAX_PACKET}"')
    assert capture_of(picture_with("WEBP", xmp=packet)) == {}


def test_a_packet_just_under_the_limit_is_read() -> None:
    packet = xmp_packet("<dc:a b=''/>" * (MAX_PACKET // 13), 'xmp:Rating="4"')
    assert capture_of(picture_with("WEBP", xmp=packet)) == {"rating": 4}


def png_with_text(
    keyword: bytes, text: bytes, *, packed: bool = False, damaged: bool = False
) -> bytes:
    """Return a PNG with a chunk iTXt, whose checksum may be wrong."""
    body = keyword + b"\0" + bytes([packed]) + b"\0\0\0" + (zlib.compress(text) if packed else text)
    checksum = zlib.crc32(b"iTXt" + body) ^ damaged
    chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", checksum)
    content = encoded(PICTURE, "PNG")
    return content[:33] + chunk + content[33:]


_XMP_KEYWORD = b"XML:com.adobe.xmp"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_packet_in_a_png_is_read_if_it_is_intact_and_not_too_large(packed: bool) -> None:
    long = SIMPLE + b" " * MAX_PACKET
    assert capture_of(png_with_text(_XMP_KEYWORD, SIMPLE, packed=packed)) == {"rating": 4}
    assert capture_of(png_with_text(_XMP_KEYWORD, SIMPLE, packed=packed, damaged=True)) == {}
    assert capture_of(png_with_text(_XMP_KEYWORD, long, packed=packed)) == {}
    assert capture_of(png_with_text(b"Comment", SIMPLE, packed=packed)) == {}
    bomb = b" " * 100_000_000
    assert capture_of(png_with_text(_XMP_KEYWORD, bomb, packed=True)) == {}


@pytest.mark.parametrize(
    "record",
    [
        iptc_record((2, 80, b"Ada"))[:-1],
        b"\x1c\x02\x78\x84\x05\xf5\xe1\x00Ada",
        b"\x1c\x02\x78\xff\xff" + bytes(20),
        b"\x1c\x63\x78\0\1x",
        b"\x1c",
        np.random.default_rng(3).bytes(300),
        b"\x1c\x02\x19\0\0" * 5000,
    ],
    ids=["cut", "100 MB", "long length", "unknown record", "one byte", "noise", "5000 empty"],
)
def test_a_hostile_iptc_record_costs_only_itself(record: bytes) -> None:
    content = jpeg_with(photoshop_segment(record), exif=PHONE_EXIF)
    assert capture_of(content)["camera"] == "Apple iPhone 12"
    capture_of(tiff_with(iptc=record))


@pytest.mark.parametrize(
    "content",
    [
        b"Photoshop 3.0\0",
        b"Photoshop 3.0\x008BIM",
        b"Photoshop 3.0\x008BIM\4\4",
        b"Photoshop 3.0\x008BIM\4\4\0",
        b"Photoshop 3.0\x008BIM\4\4\xff",
        b"Photoshop 3.0\x008BIM\4\4\0\0\x05\xf5\xe1\x00x",
        b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\2xx",
    ],
)
def test_a_jpeg_whose_photoshop_segment_is_cut_off_is_accepted(content: bytes) -> None:
    said = capture_of(jpeg_with(segment(0xED, content), exif=PHONE_EXIF))
    assert said["camera"] == "Apple iPhone 12"


def avif_with_broken_exif(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a text by which it is found"
    content = picture_with("AVIF", exif=exif.tobytes())
    start = content.index(b"II*\0" if b"II*\0" in content else b"MM\0*")
    return content[:start] + b"??" + content[start + 2 :]


def test_an_avif_whose_exif_is_no_exif_is_accepted() -> None:
    with pytest.raises(ValueError, match="Exif"):
        AvifImageFile(io.BytesIO(avif_with_broken_exif()))
    assert capture_of(avif_with_broken_exif()) == {}
    decoded = decode_image(io.BytesIO(avif_with_broken_exif(6)), min_side=8)
    assert (decoded.width, decoded.height) == PICTURE.size[::-1]


@pytest.mark.parametrize("content", [b"", b"no image", b"\0\0\0\x1cftypavif" + bytes(100)])
def test_what_is_no_image_is_rejected_by_both_ways(content: bytes) -> None:
    for read in (
        lambda: decode_image(io.BytesIO(content), min_side=8),
        lambda: inspect_image(io.BytesIO(content), read_capture),
    ):
        with pytest.raises(ImageRejected):
            read()


def directory(entries: bytes, count: int, following: int = 0) -> bytes:
    head = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count)
    return head + entries + struct.pack("<I", following)


def pointer(tag: int, target: int) -> bytes:
    return struct.pack("<HHII", tag, 4, 1, target)


LOOPS = {
    "the camera's directory is the first": directory(pointer(0x8769, 8), 1),
    "the place's directory is the first": directory(pointer(0x8825, 8), 1),
    "both are the first, which follows itself": directory(
        pointer(0x8769, 8) + pointer(0x8825, 8), 2, following=8
    ),
    "a directory far away": directory(pointer(0x8769, 0xFFFFFFF0), 1),
    "more entries than bytes": directory(pointer(0x8769, 8), 65535),
    "100 MB declared": directory(struct.pack("<HHII", 0x010F, 2, 100_000_000, 8), 1),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_hostile_exif_directory_says_nothing(name: str, format: str) -> None:
    assert capture_of(picture_with(format, exif=LOOPS[name])) == {}


def test_each_field_of_exif_fails_alone() -> None:
    block = raw_exif(
        {
            0x829A: (2, b"no number\0"),
            0x829D: (5, struct.pack("<II", 28, 10)),
            0x8827: (7, b"\xff"),
            0x9003: (7, b"2024:05:01 10:00:00\0"),
            0xA434: (3, b"\1\0"),
        },
        pointer=0x8769,
    )
    assert capture_of(jpeg_with(exif=block)) == {"aperture": 2.8}


def test_numbers_by_the_million_do_not_cost_a_picture_its_time() -> None:
    fractions = struct.pack("<II", 1, 2) * 1_500_000
    hostile = {
        "orientation": raw_exif({0x0112: (5, fractions)}),
        "camera": raw_exif({0x829A: (5, fractions)}, pointer=0x8769),
    }
    pool = DecodePool(DecodeLimits(slots=1, memory=200 << 20, seconds=5, max_waiting=8))
    try:
        for block in hostile.values():
            file = io.BytesIO(picture_with("PNG", exif=block))
            before = time.process_time()
            decoded = pool.decode(file, DecodeJob(capture=True), Purpose.UPLOAD)
            assert decoded.capture == {}
            assert time.process_time() - before < 5
    finally:
        pool.close()


_RECORD = photoshop_segment(iptc_record((2, 80, b"Ada")))
RICH = {
    "JPEG": jpeg_with(_RECORD, exif=PHONE_EXIF),
    "WEBP": picture_with("WEBP", PHONE_EXIF),
    "AVIF": picture_with("AVIF", PHONE_EXIF),
}


def _range_of(content: bytearray, part: bytes) -> range:
    start = content.index(part)
    return range(start, start + len(part))


@settings(deadline=None, max_examples=150)
@given(
    format=st.sampled_from(["JPEG", "WEBP", "AVIF"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20
    ),
)
def test_damaged_metadata_never_rejects_a_picture(
    format: str, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(RICH[format])
    places = [*_range_of(content, PHONE_EXIF[6:])]
    if format == "JPEG":
        places += _range_of(content, _RECORD[4:])
    for place, value in changes:
        content[places[int(place * len(places))]] = value
    check_capture(decode_image(io.BytesIO(content), min_side=8, read_metadata=read_capture).capture)
