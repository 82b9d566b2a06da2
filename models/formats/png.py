"""Selects the chunks of a PNG file that its picture needs and that are intact.

Viewers ignore metadata that is damaged, oversized or out of place, but Pillow refuses the file.
"""

from __future__ import annotations

import io
import itertools
import re
import zlib
from typing import BinaryIO

from models.formats.faults import Damaged, TooManyPieces

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000  # encoders split the pixels into chunks of 8 kB
MAX_PROFILE = 1 << 20  # bytes of a colour profile when it is unpacked
# What the picture depends on: its colours, and how it is turned. Of the texts, which may be bombs,
# XMP is kept. Animations are not, because only the still picture counts.
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4}  # bytes
_BEFORE_PIXELS = {*_LENGTHS, b"iCCP", b"tRNS"}
_NEEDED = {*_BEFORE_PIXELS, b"eXIf", b"iTXt"}
_XMP = re.compile(rb"XML:com\.adobe\.xmp\0([\0\1])\0[^\0]*\0[^\0]*\0")
MAX_XMP = 1 << 20  # bytes when it is unpacked
_GREY, _COLOUR, _PALETTE = 0, 2, 3  # colour types


def select_chunks(file: BinaryIO) -> BinaryIO:
    """Return a file without the chunks that are damaged or not needed, at its start.

    It is the same file if there are none. Raises TooManyPieces, and Damaged if the checksum of a
    critical chunk is wrong, or if the end is missing.
    """
    file.seek(len(SIGNATURE))
    selection = _Selection()
    position = len(SIGNATURE)
    parts = [(0, position)]  # start and stop of what is kept
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            parts.append((position, position + 8 + length + 4))
            return _copy_parts(file, parts)
        content = file.read(length + 4)
        if len(content) < length + 4 or len(head) < 8:
            raise Damaged("it ends before its last chunk")
        start, position = position, position + len(head) + len(content)
        if selection.keeps(kind, content):
            parts.append((start, position))
    raise TooManyPieces(f"it has more than {MAX_CHUNKS} chunks")


def _copy_parts(file: BinaryIO, parts: list[tuple[int, int]]) -> BinaryIO:
    if all(stop == start for (_, stop), (start, _) in itertools.pairwise(parts)):
        file.seek(0)
        return file
    selected = io.BytesIO()
    for start, stop in parts:
        file.seek(start)
        selected.write(file.read(stop - start))
    selected.seek(0)
    return selected


class _Selection:
    """Decides which chunks are kept, one after the other."""

    def __init__(self) -> None:
        self._colour_type = -1
        self._colours = 0  # of the palette
        self._seen: set[bytes] = set()

    def keeps(self, kind: bytes, content: bytes) -> bool:
        """Whether to keep the next chunk, whose ``content`` ends with its checksum.

        Raises Damaged if a critical chunk has a wrong checksum.
        """
        data = memoryview(content)[:-4]
        intact = zlib.crc32(data, zlib.crc32(kind)) == int.from_bytes(content[-4:], "big")
        if kind[:1].isupper():  # a critical chunk (PNG, 5.4)
            if not intact:
                raise Damaged("its pixels or its header have a wrong checksum")
            self._seen.add(kind)
            if kind == b"IHDR":
                self._colour_type = data[9] if len(data) > 9 else -1
            elif kind == b"PLTE":
                self._colours = len(data) // 3
            return True
        if kind == b"iTXt" and (not intact or not _is_xmp(bytes(data))):
            return False
        is_late = kind in _BEFORE_PIXELS and b"IDAT" in self._seen
        if not intact or is_late or kind not in _NEEDED or kind in self._seen:
            return False
        self._seen.add(kind)
        return self._is_usable(kind, data)

    def _is_usable(self, kind: bytes, data: memoryview) -> bool:
        if kind == b"iCCP":
            return _is_profile(bytes(data))
        if kind == b"tRNS":
            return self._is_transparency(len(data))
        return len(data) == _LENGTHS.get(kind, len(data))

    def _is_transparency(self, length: int) -> bool:
        if self._colour_type == _PALETTE:
            return 0 < length <= self._colours
        return length == {_GREY: 2, _COLOUR: 6}.get(self._colour_type)


def _is_profile(data: bytes) -> bool:
    """Whether a chunk iCCP has a profile of an acceptable size (PNG, 11.3.2.3)."""
    _, _, packed = data.partition(b"\0")
    return packed[:1] == b"\0" and _unpacks(packed[1:], MAX_PROFILE)


def _is_xmp(data: bytes) -> bool:
    """Whether a chunk iTXt has an XMP packet of an acceptable size (PNG, 11.3.3.4)."""
    found = _XMP.match(data)
    if found is None:
        return False
    text = data[found.end() :]
    return len(text) <= MAX_XMP if found[1] == b"\0" else _unpacks(text, MAX_XMP)


def _unpacks(packed: bytes, limit: int) -> bool:
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, limit)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail
