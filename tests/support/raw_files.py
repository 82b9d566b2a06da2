"""Camera raw files that consist of a preview, a few black raw pixels, and what says what they are.

Most formats are a TIFF whose first directory has the preview, and a second one the raw pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Entry = tuple[int, int, Sequence[int] | bytes]  # tag, type, values

_WIDTH, _HEIGHT = 64, 48  # of the raw pixels
_PIXELS = bytes(_WIDTH * _HEIGHT * 2)
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # of a value of each type (TIFF 6.0)
_CODES = {1: "B", 3: "H", 4: "I"}
_BYTE, _TEXT, _SHORT, _LONG = 1, 2, 3, 4
_LITTLE = b"II*\0\x08\0\0\0"
_BIG = b"MM\0*\0\0\0\x08"
DNG_TAGS: list[Entry] = [(50706, _BYTE, b"\1\4\0\0"), (50708, _TEXT, b"ACME\0")]


def directory(entries: list[Entry], at: int, order: str = "<") -> bytes:
    """Return a TIFF directory that starts at byte ``at``, with its values behind it."""
    behind = at + 2 + 12 * len(entries) + 4
    head, tail = struct.pack(f"{order}H", len(entries)), b""
    for tag, kind, values in sorted(entries):
        if isinstance(values, bytes):
            packed = values
        else:
            packed = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        head += struct.pack(f"{order}HHI", tag, kind, len(packed) // _BYTES[kind])
        if len(packed) <= 4:
            head += packed.ljust(4, b"\0")
        else:
            head += struct.pack(f"{order}I", behind + len(tail))
            tail += packed + bytes(len(packed) % 2)
    return head + bytes(4) + tail


def raw_tiff(
    preview: bytes,
    *,
    start: bytes = _LITTLE,
    maker: str = "ACME",
    model: str = "One",
    orientation: int = 1,
    tags: Sequence[Entry] = (),
    larger: bytes = b"",
) -> bytes:
    """Make a file of the kind of NEF, ARW, DNG, CR2, ORF and RW2.

    Without a preview it has only the raw pixels. ``larger`` is a second preview of 600 x 400
    pixels, in a directory of its own.
    """
    order = ">" if start.startswith(b"MM") else "<"
    about: list[Entry] = [
        (271, _TEXT, maker.encode() + b"\0"),
        (272, _TEXT, model.encode() + b"\0"),
        (274, _SHORT, [orientation]),
        *tags,
    ]
    raw: list[Entry] = [(33421, _SHORT, [2, 2]), (33422, _BYTE, b"\0\1\1\2")]

    def put_together(places: Sequence[int]) -> tuple[list[bytes], list[int]]:
        """Return the parts of the file, and where each of them is."""
        raw_at, larger_at, pixels_at, preview_at, larger_preview_at = places
        below = [raw_at, *([larger_at] if larger else [])]
        first: list[Entry] = [(254, _LONG, [1]), (330, _LONG, below), *about]
        if preview:
            first += _image((96, 64), 6, 6, preview_at, len(preview))
            first += [(513, _LONG, [preview_at]), (514, _LONG, [len(preview)])]
        at = len(start)
        parts, found = [start], []
        pixels = _image((_WIDTH, _HEIGHT), 1, 32803, pixels_at, len(_PIXELS))
        second = _image((600, 400), 7, 6, larger_preview_at, len(larger))
        for entries in (first, [(254, _LONG, [0]), *pixels, *raw], [(254, _LONG, [1]), *second]):
            found.append(at)
            parts.append(directory(entries, at, order))
            at += len(parts[-1])
        for content in (_PIXELS, preview, larger):
            found.append(at)
            parts.append(content)
            at += len(content)
        return parts, found[1:]

    _, places = put_together([0] * 5)
    return b"".join(put_together(places)[0])


def _image(
    size: tuple[int, int], compression: int, colours: int, at: int, length: int
) -> list[Entry]:
    """Return what a directory says of an image in one strip; 32803 means raw pixels."""
    bits = [16] if colours == 32803 else [8, 8, 8]
    return [
        (256, _LONG, [size[0]]),
        (257, _LONG, [size[1]]),
        (258, _SHORT, bits),
        (259, _SHORT, [compression]),
        (262, _SHORT, [colours]),
        (273, _LONG, [at]),
        (277, _SHORT, [len(bits)]),
        (278, _LONG, [size[1]]),
        (279, _LONG, [length]),
    ]


def raw_file(format: str, preview: bytes, orientation: int = 1) -> bytes:
    """Make a raw file of a format, which is named as in ``camera_raw.FORMATS``."""
    if format == "RAF":
        return _raf(preview)
    if format == "CR3":
        return _cr3(preview, orientation)
    options = {
        "ARW": {"maker": "SONY", "model": "ILCE-7M3"},
        "CR2": {
            "start": b"II*\0\x10\0\0\0CR\2\0\0\0\0\0",
            "maker": "Canon",
            "model": "Canon EOS 5D Mark III",
        },
        "DNG": {"tags": DNG_TAGS},
        "NEF": {"maker": "NIKON CORPORATION", "model": "NIKON D850", "start": _BIG},
        "ORF": {"start": b"IIRO\x08\0\0\0", "maker": "OLYMPUS", "model": "E-M1"},
        "RW2": {
            "start": b"IIU\0\x08\0\0\0",
            "maker": "Panasonic",
            "model": "DMC-GH4",
            "tags": [(0x2E, 7, preview)],
        },
    }[format]
    return raw_tiff(preview, orientation=orientation, **options)  # type: ignore[arg-type]


def _raf(preview: bytes) -> bytes:
    """Make a file of Fujifilm: a header, a list of properties, the preview and the raw pixels."""
    size = struct.pack(">IHHHH", 1, 0x100, 4, _HEIGHT, _WIDTH)
    head = b"FUJIFILMCCD-RAW 0201FF393101" + b"X-T2".ljust(32, b"\0") + b"0100" + bytes(20)
    at = 160 + len(size)
    places = [at, len(preview), 160, len(size), at + len(preview), len(_PIXELS)]
    return (head + struct.pack(">6I", *places)).ljust(160, b"\0") + size + preview + _PIXELS


def _cr3(preview: bytes, orientation: int) -> bytes:
    """Make a newer file of Canon: a film of two tracks, the preview and the raw pixels."""
    about: list[Entry] = [
        (256, _LONG, [_WIDTH]),
        (257, _LONG, [_HEIGHT]),
        (271, _TEXT, b"Canon\0"),
        (272, _TEXT, b"Canon EOS R\0"),
        (274, _SHORT, [orientation]),
    ]
    size = struct.pack(">4I", _WIDTH, _HEIGHT, _WIDTH, _HEIGHT)
    coding = "0e400000000000d8000000000101000001010000010100000101000000000044"
    raw = _box(b"CMP1", bytes.fromhex("ff00003001000000"), size, bytes.fromhex(coding))
    start = _box(b"ftyp", b"crx \0\0\0\1crx isom")

    def head(at: int) -> bytes:
        tracks = (
            _track((96, 64), b"\0\3\0\0" + _box(b"JPEG", bytes(4)), at, len(preview)),
            _track((_WIDTH, _HEIGHT), b"\0\1\0\1" + raw, at + len(preview), len(_PIXELS)),
        )
        canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
        metadata = _box(b"uuid", canon, _box(b"CMT1", _LITTLE, directory(about, len(_LITTLE))))
        return start + _box(b"moov", metadata, *tracks)

    return head(len(head(0)) + 8) + _box(b"mdat", preview, _PIXELS)


def _track(size: tuple[int, int], coding: bytes, at: int, length: int) -> bytes:
    """Return a track of one image (ISO/IEC 14496-12, 8.3)."""
    image = struct.pack(">HH", *size)
    entry = _box(b"CRAW", bytes(7), b"\1", bytes(16), image, bytes(46), b"\0\x18\xff\xff", coding)
    samples = _box(
        b"stbl",
        _box(b"stsd", bytes(7), b"\1", entry),
        _box(b"stsc", struct.pack(">5I", 0, 1, 1, 1, 1)),
        _box(b"stsz", struct.pack(">3I", 0, length, 1)),
        _box(b"co64", struct.pack(">IIQ", 0, 1, at)),
    )
    handler = _box(b"hdlr", bytes(8), b"vide", bytes(13))
    return _box(b"trak", _box(b"mdia", handler, _box(b"minf", samples)))


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body
