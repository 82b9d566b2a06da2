"""Reads the structure of a JPEG file before it is decoded.

A file of a few kilobytes can contain so many scans or segments that decoding it takes hours.
Counting them first takes milliseconds.
"""

from __future__ import annotations

import re
from contextlib import suppress

from models.formats.faults import NotSupported, TooManyPieces

MAX_SCANS = 100  # progressive files have about 10, and each scan rewrites every pixel
MAX_SEGMENTS = 2000  # profiles and metadata are split into segments of 64 kB
# A marker with a length behind it, as opposed to an escaped 0xFF in the pixels, the markers TEM and
# RST, which stand alone, and a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xCA}
_KNOWN_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA}
_APPLICATION = range(0xE0, 0xF0)  # segments with metadata
_CHANNELS = (1, 3, 4)
_IGNORED = 0xEF  # Pillow and libjpeg read nothing in APP15
# What the pixels depend on: the colour model, the orientation and the colour profile. libjpeg
# ignores shorter ones (examine_app0 and examine_app14 in its jdmarker.c).
_NEEDED = {b"JFIF\0": 14, b"Adobe": 12, b"Exif\0\0": 6, b"ICC_PROFILE\0": 14}


class Structure:
    """What the segments of a JPEG file say, as far as it was read (ITU T.81, B.2)."""

    def __init__(self) -> None:
        self.has_end = False  # whether the marker of its end was found
        self.is_progressive = False
        self.size = 0, 0  # width and height in pixels
        self._sampling: dict[int, tuple[int, int]] = {}  # of each channel, by its id
        self._missing_bits: dict[int, list[int]] = {}  # of each coefficient, by the channel's id
        self.scans: list[tuple[int, ...]] = []  # ids of the channels in each
        self.last_scan_start = 0  # where the pixels of the last scan begin

    @property
    def has_several_scans(self) -> bool:
        """Whether libjpeg must keep the coefficients of the whole image."""
        return bool(self.scans) and len(self.scans[0]) < len(self._sampling)

    @property
    def has_all_scans(self) -> bool:
        """Whether the last scan is the last one that the pixels need."""
        return bool(self.scans) and not any(map(any, self._missing_bits.values()))

    @property
    def unit(self) -> tuple[int, int]:
        """Width and height in pixels of what the last scan codes at once (A.2)."""
        widest = max(width for width, _ in self._sampling.values())
        highest = max(height for _, height in self._sampling.values())
        if len(self.scans[-1]) > 1:
            return 8 * widest, 8 * highest
        width, height = self._sampling[self.scans[-1][0]]
        return 8 * widest // width, 8 * highest // height

    def add_frame(self, marker: int, frame: bytes) -> None:
        """Read a frame header (B.2.2). Raises NotSupported."""
        bits, channels = frame[0], frame[5]
        if bits != 8:
            raise NotSupported(f"it is a JPEG with {bits} bits per channel")
        if channels not in _CHANNELS:
            raise NotSupported(f"it is a JPEG with {channels} channels")
        if marker not in _KNOWN_FRAMES:
            raise NotSupported("it is a hierarchical or lossless JPEG")
        self.is_progressive = marker in _PROGRESSIVE
        self.size = int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])
        for position in range(6, 6 + 3 * channels, 3):
            id_, sampling = frame[position], frame[position + 1]
            self._sampling[id_] = max(1, sampling >> 4), max(1, sampling & 15)
            self._missing_bits[id_] = [1] * 64

    def add_scan(self, scan: bytes) -> None:
        """Read a scan header (B.2.3). Raises TooManyPieces."""
        channels = scan[0]
        ids = tuple(scan[1 : 1 + 2 * channels : 2])
        first, last, bits = scan[1 + 2 * channels : 4 + 2 * channels]
        self.scans.append(ids)
        if len(self.scans) > MAX_SCANS:
            raise TooManyPieces(f"it has more than {MAX_SCANS} scans")
        if not self.is_progressive:
            first, last, bits = 0, 63, 0
        for id_ in ids:
            self._missing_bits[id_][first : last + 1] = [bits & 15] * len(
                range(first, min(last, 63) + 1)
            )


def read_structure(content: bytes) -> Structure:
    """Step from marker to marker as a decoder does, up to the end of the image.

    Bytes behind the end of the image do not count. Damage is left for the decoder to detect. Raises
    TooManyPieces, NotSupported.
    """
    structure = Structure()
    segments = 0
    position = 2
    while found := _MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            structure.has_end = True
            break
        length = int.from_bytes(content[position : position + 2])
        segment = content[position + 2 : position + length]
        with suppress(LookupError, ValueError):  # it is cut short
            if marker in _FRAMES:
                structure.add_frame(marker, segment)
            elif marker == _START_OF_SCAN:
                structure.add_scan(segment)
                structure.last_scan_start = position + length
        position += length
        segments += 1
        if segments > MAX_SEGMENTS:
            raise TooManyPieces(f"it has more than {MAX_SEGMENTS} segments")
    return structure


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
