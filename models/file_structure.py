"""Limits on the pieces that an image file consists of.

A file of a few kilobytes can contain so many scans, segments or chunks that decoding it takes
hours. Counting them first takes milliseconds.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

MAX_SCANS = 100  # per JPEG; progressive files have about 10, and each scan rewrites every pixel
MAX_SEGMENTS = 2000  # per JPEG; profiles and metadata are split into segments of 64 kB
MAX_CHUNKS = 20_000  # per PNG; encoders split the pixels into chunks of 8 kB
# A marker with a length behind it, as opposed to an escaped 0xFF in the pixels, the markers TEM and
# RST, which stand alone, and a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class TooManyPieces(Exception):
    """The file has too many scans, segments or chunks; the message is a clause that names them."""


def check_structure(file: BinaryIO) -> int:
    """Count the pieces of a JPEG or PNG file, and rewind it. Other formats always pass.

    Returns how many channels the first scan of a JPEG has, and 0 for other formats. Damage is left
    for the decoder to detect. Raises TooManyPieces.
    """
    file.seek(0)
    head = file.read(8)
    channels = 0
    if head.startswith(b"\xff\xd8"):
        channels = _check_jpeg(file)
    elif head == b"\x89PNG\r\n\x1a\n":
        _check_png(file)
    file.seek(0)
    return channels


def _check_jpeg(file: BinaryIO) -> int:
    """Step from marker to marker as a decoder does (ITU T.81, B.1), up to the end of the image.

    Bytes behind the end of the image do not count. Returns the channels of the first scan.
    """
    file.seek(0)
    content = file.read()
    scans = segments = channels = 0
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            return channels
        if marker == _START_OF_SCAN and not scans:
            channels = int.from_bytes(content[position + 2 : position + 3])
        position += int.from_bytes(content[position : position + 2])
        segments += 1
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise TooManyPieces(f"it has more than {MAX_SCANS} scans")
        if segments > MAX_SEGMENTS:
            raise TooManyPieces(f"it has more than {MAX_SEGMENTS} segments")
    return channels


def _check_png(file: BinaryIO) -> None:
    file.seek(8)
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        file.seek(struct.unpack(">I", head[:4])[0] + 4, 1)
    raise TooManyPieces(f"it has more than {MAX_CHUNKS} chunks")
