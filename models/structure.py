"""Bounds on the pieces a file is made of: a few bytes of file can ask for hours of decoding."""

from __future__ import annotations

import struct
from typing import BinaryIO

MAX_SCANS = 100  # of a JPEG; progressive ones have about 10, and each goes over all pixels
MAX_SEGMENTS = 2000  # of a JPEG's head; profiles and metadata are cut into pieces of 64 kB
MAX_CHUNKS = 20_000  # of a PNG; encoders cut the pixels into pieces of 8 kB
_CHUNK = 1024 * 1024
_START_OF_SCAN = b"\xff\xda"


class TooManyPieces(Exception):
    """The message says of what."""


def check_structure(file: BinaryIO) -> None:
    """Raises TooManyPieces. Leaves the file at its start; damage is for the decoder to find."""
    file.seek(0)
    head = file.read(8)
    if head.startswith(b"\xff\xd8"):
        _check_segments(file)
        _check_scans(file)
    elif head == b"\x89PNG\r\n\x1a\n":
        _check_chunks(file)
    file.seek(0)


def _check_segments(file: BinaryIO) -> None:
    file.seek(2)
    for _ in range(MAX_SEGMENTS):
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF or marker[:2] == _START_OF_SCAN:
            return
        if marker[1] == 0xFF:  # a fill byte
            file.seek(-3, 1)
            continue
        file.seek(max(0, int.from_bytes(marker[2:]) - 2), 1)
    raise TooManyPieces(f"it has more than {MAX_SEGMENTS} segments")


def _check_scans(file: BinaryIO) -> None:
    file.seek(0)
    scans, last = 0, b""
    while chunk := file.read(_CHUNK):
        scans += (last + chunk).count(_START_OF_SCAN)
        last = chunk[-1:]
    if scans > MAX_SCANS:
        raise TooManyPieces(f"it has more than {MAX_SCANS} scans")


def _check_chunks(file: BinaryIO) -> None:
    file.seek(8)
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        file.seek(struct.unpack(">I", head[:4])[0] + 4, 1)
    raise TooManyPieces(f"it has more than {MAX_CHUNKS} chunks")
