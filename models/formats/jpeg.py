"""Reads the structure of a JPEG file before it is decoded.

A file of a few kilobytes can contain so many scans or segments that decoding it takes hours.
Counting them first takes milliseconds.
"""

from __future__ import annotations

import re

from models.formats.faults import NotSupported, TooManyPieces

MAX_SCANS = 100  # progressive files have about 10, and each scan rewrites every pixel
MAX_SEGMENTS = 2000  # profiles and metadata are split into segments of 64 kB
# A marker with a length behind it, as opposed to an escaped 0xFF in the pixels, the markers TEM and
# RST, which stand alone, and a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_KNOWN_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA}
_APPLICATION = range(0xE0, 0xF0)  # segments with metadata
_CHANNELS = (1, 3, 4)
_IGNORED = 0xEF  # Pillow and libjpeg read nothing in APP15
# What the pixels depend on: the colour model, the orientation and the colour profile. libjpeg
# ignores shorter ones (examine_app0 and examine_app14 in its jdmarker.c).
_NEEDED = {b"JFIF\0": 14, b"Adobe": 12, b"Exif\0\0": 6, b"ICC_PROFILE\0": 14}


def check_structure(content: bytes) -> int:
    """Step from marker to marker as a decoder does (ITU T.81, B.1), up to the end of the image.

    Bytes behind the end of the image do not count. Returns the channels of the first scan. Damage
    is left for the decoder to detect. Raises TooManyPieces, NotSupported.
    """
    scans = segments = channels = 0
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            return channels
        if marker == _START_OF_SCAN and not scans:
            channels = int.from_bytes(content[position + 2 : position + 3])
        if marker in _FRAMES:
            _check_frame(marker, content[position + 2 : position + 8])
        position += int.from_bytes(content[position : position + 2])
        segments += 1
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise TooManyPieces(f"it has more than {MAX_SCANS} scans")
        if segments > MAX_SEGMENTS:
            raise TooManyPieces(f"it has more than {MAX_SEGMENTS} segments")
    return channels


def _check_frame(marker: int, frame: bytes) -> None:
    """Check the start of a frame header (ITU T.81, B.2.2)."""
    if len(frame) < 6:
        return
    bits, channels = frame[0], frame[5]
    if bits != 8:
        raise NotSupported(f"it is a JPEG with {bits} bits per channel, and only 8 are supported")
    if channels not in _CHANNELS:
        raise NotSupported(
            f"it is a JPEG with {channels} channels, and only 1, 3 or 4 are supported"
        )
    if marker not in _KNOWN_FRAMES:
        raise NotSupported("it is a JPEG of a hierarchical or lossless kind that is not supported")


def hide_metadata(content: bytes) -> bytes:
    """Return a JPEG file with the metadata hidden that its pixels do not depend on.

    Pillow refuses the file if it cannot read them, and viewers ignore them.
    """
    changed = bytearray(content)
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        length = int.from_bytes(content[position : position + 2])
        if marker == _COMMENT or marker in _APPLICATION:
            data = content[position + 2 : position + length]
            needed = any(
                data.startswith(start) and len(data) >= least for start, least in _NEEDED.items()
            )
            if not needed:
                changed[found.end() - 1] = _IGNORED
        position += length
    return bytes(changed)
