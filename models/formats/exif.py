"""Reads the orientation in an EXIF block exactly as browsers do."""

from __future__ import annotations

_MARK = b"Exif\0\0"
_LITTLE_ENDIAN, _BIG_ENDIAN = b"II*\0", b"MM\0*"
_ORIENTATION, _SHORT = 0x0112, 3


def read_exif_orientation(block: bytes) -> int:
    """Return the orientation, 1 to 8, or 1 if there is none.

    Browsers take it only from the first directory, as one number of 16 bits (TIFF 6.0, section 2),
    while Pillow also takes other types of numbers. Nobody would see what a box on such a picture
    means.
    """
    tiff = block.removeprefix(_MARK)
    if not tiff.startswith((_LITTLE_ENDIAN, _BIG_ENDIAN)):
        return 1

    def number(position: int, size: int) -> int:
        little = tiff.startswith(_LITTLE_ENDIAN)
        return int.from_bytes(tiff[position : position + size], "little" if little else "big")

    start = number(4, 4) + 2
    for entry in range(start, start + 12 * number(start - 2, 2), 12):
        if len(tiff) < entry + 12:
            return 1
        kind = number(entry, 2), number(entry + 2, 2), number(entry + 4, 4)
        if kind == (_ORIENTATION, _SHORT, 1):
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
