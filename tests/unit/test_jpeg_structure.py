"""Small files that would take hours to decode are rejected before they are decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest

from models.formats.faults import TooManyPieces
from models.formats.jpeg import MAX_SCANS, MAX_SEGMENTS, read_structure
from models.imaging import ImageRejected, decode_image
from tests.support.images import PHOTOGRAPHS, encoded, photograph

JPEG = encoded(photograph("coffee"), progressive=True)


def bomb(kind: str) -> bytes:
    if kind == "scans":  # the last scan, repeated
        last = JPEG[JPEG.rindex(b"\xff\xda") : -2]
        return JPEG[:-2] + last * MAX_SCANS + JPEG[-2:]
    if kind == "scans behind markers without a length":
        last = JPEG[JPEG.rindex(b"\xff\xda") : -2]
        return JPEG[:-2] + (b"\xff\x01" + last) * MAX_SCANS + JPEG[-2:]
    return JPEG[:2] + b"\xff\xe5\x00\x02" * MAX_SEGMENTS + JPEG[2:]


@pytest.mark.parametrize("kind", ["scans", "scans behind markers without a length", "segments"])
def test_too_many_pieces_are_rejected(kind: str) -> None:
    with pytest.raises(TooManyPieces, match=kind.split(maxsplit=1)[0]):
        read_structure(bomb(kind))
    with pytest.raises(ImageRejected, match=kind.split(maxsplit=1)[0]) as caught:
        decode_image(io.BytesIO(bomb(kind)), min_side=224)
    assert caught.value.code == "invalid-image"


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("progressive", [False, True])
def test_real_files_pass(name: str, progressive: bool) -> None:
    content = encoded(photograph(name), progressive=progressive)
    structure = read_structure(content)
    assert structure.has_end
    assert structure.has_all_scans
    assert structure.is_progressive is progressive
    assert structure.size == photograph(name).size
    assert decode_image(io.BytesIO(content), min_side=224).width == photograph(name).width


# metadata


def with_segment(marker: int, data: bytes, *, instead: bool = False) -> bytes:
    """Add a segment to a JPEG, or replace its first one, which is that of JFIF."""
    content = encoded(photograph("coffee").resize((60, 40)), quality=95)
    rest = content[4 + int.from_bytes(content[4:6]) :] if instead else content[2:]
    return content[:2] + bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2) + data + rest


BROKEN_METADATA = {
    "only the name of JFIF": with_segment(0xE0, b"JFIF\0", instead=True),
    "JFIF without its density": with_segment(0xE0, b"JFIF\0\1\1", instead=True),
    "only the name of Adobe": with_segment(0xEE, b"Adobe"),
    "resources of Photoshop without their names": with_segment(0xED, b"Photoshop 3.0\x008BIM\4\4"),
    "an index of further images that is cut": with_segment(0xE2, b"MPF\0MM\0*"),
    "half a header of Exif": with_segment(0xE1, b"Exif\0\0MM"),
    "a profile without a number": with_segment(0xE2, b"ICC_PROFILE\0"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", BROKEN_METADATA)
def test_metadata_that_cannot_be_read_are_ignored(name: str) -> None:
    decoded = decode_image(io.BytesIO(BROKEN_METADATA[name]), min_side=40)
    expected = np.asarray(photograph("coffee").resize((60, 40))).astype(int)
    assert np.abs(np.asarray(decoded.image) - expected).mean() < 5


# other kinds


def with_frame(kind: int = 0xC0, bits: int = 8, channels: int = 3) -> bytes:
    content = bytearray(encoded(photograph("coffee").resize((60, 40))))
    start = content.index(b"\xff\xc0")
    content[start + 1], content[start + 4], content[start + 9] = kind, bits, channels
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (with_frame(bits=12), "12 bits per channel"),
        (with_frame(kind=0xC1, bits=12), "12 bits per channel"),
        (with_frame(channels=2), "2 channels"),
        (with_frame(kind=0xC5), "hierarchical"),
    ],
    ids=["12 bits", "12 bits, extended", "2 channels", "hierarchical"],
)
def test_a_kind_that_is_not_supported_is_named(content: bytes, cause: str) -> None:
    with pytest.raises(ImageRejected, match=cause) as caught:
        decode_image(io.BytesIO(content), min_side=224)
    assert caught.value.code == "unsupported-image-type"
