"""Bounds on the pieces a file is made of: a few bytes of file can ask for hours of decoding."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

MAX_SCANS = 100  # of a JPEG; progressive ones have about 10, and each goes over all pixels
MAX_SEGMENTS = 2000  # of a JPEG; profiles and metadata are cut into pieces of 64 kB
MAX_CHUNKS = 20_000  # of a PNG; encoders cut the pixels into pieces of 8 kB
_MARKER = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]"
)  # not an escaped byte of pixels, a restart or a fill byte
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class TooManyPieces(Exception):
    """The message says of what."""


def check_structure(file: BinaryIO) -> None:
    """Raises TooManyPieces. Leaves the file at its start; damage is for the decoder to find."""
    file.seek(0)
    head = file.read(8)
    if head.startswith(b"\xff\xd8"):
        _check_jpeg(file)
    elif head == b"\x89PNG\r\n\x1a\n":
        _check_png(file)
    file.seek(0)


def _check_jpeg(file: BinaryIO) -> None:
    """Goes from marker to marker as a decoder does (ITU T.81, B.1), up to the image's end: what is behind it does not count."""
    file.seek(0)
    content = file.read()
    scans = segments = 0
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            return
        position += int.from_bytes(content[position : position + 2])
        segments += 1
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise TooManyPieces(f"it has more than {MAX_SCANS} scans")
        if segments > MAX_SEGMENTS:
            raise TooManyPieces(f"it has more than {MAX_SEGMENTS} segments")


def _check_png(file: BinaryIO) -> None:
    file.seek(8)
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        file.seek(struct.unpack(">I", head[:4])[0] + 4, 1)
    raise TooManyPieces(f"it has more than {MAX_CHUNKS} chunks")
