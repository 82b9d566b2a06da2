"""Opens JPEG XL files, with the extra ``jxl``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from models.formats.faults import Damaged

FORMAT = "JXL"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
CODESTREAM = b"\xff\x0a"
_HEADER = 4096  # bytes of the codestream in which its header ends
_PACKED = b"brob"  # a box whose data is compressed with Brotli, after its kind
_MOST_BOXES = 1000  # that are searched for metadata
_MAX_METADATA, _MAX_EXIF = 1 << 20, 1 << 18  # bytes
_EXIF_OFFSET = 4  # bytes ahead of the data: where in it the TIFF header begins, which is 0
# Width over height, where the header only gives one of them (ISO/IEC 18181-1, table of ratios).
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_SIDE_BITS = (9, 13, 18, 30)


class JpegXl(ImageFile.ImageFile):
    """A JPEG XL file; of an animation, its first frame.

    The decoder turns it upright itself, so an orientation in EXIF data does not count.
    """

    format = FORMAT
    bytes_per_pixel = 22  # as measured with 16 megapixels of floats, the most costly

    def _open(self) -> None:
        # Loading a library takes memory, which is limited by the time the pixels are decoded.
        self._decode = importlib.import_module("imagecodecs").jpegxl_decode
        self._content = self.fp.read() if self.fp else b""
        header = _Bits(_read_codestream(self._content))
        self._size = _read_size(header)
        self._mode = "RGB"  # until it is decoded
        if _is_on_its_side(header):
            self._size = self._size[::-1]
        self._read_metadata()

    def _read_metadata(self) -> None:
        """Read the boxes with EXIF data and XMP; what is broken or too large is left out."""
        if not self._content.startswith(CONTAINER):
            return
        for kind, start, end in islice(_list_boxes(self._content), _MOST_BOXES):
            if kind in (b"Exif", b"xml ", _PACKED) and end - start <= _MAX_METADATA:
                with suppress(Exception):  # hostile boxes fail in many ways
                    self._read_box(kind, self._content[start:end])

    def _read_box(self, kind: bytes, data: bytes) -> None:
        if kind == _PACKED:
            unpack = importlib.import_module("imagecodecs").brotli_decode
            kind, data = data[:4], bytes(unpack(data[4:], out=_MAX_METADATA))
        if kind == b"Exif":
            self.getexif().load(data[_EXIF_OFFSET:][:_MAX_EXIF])
        elif kind == b"xml ":
            self.info["xmp"] = data

    def load(self) -> Any:
        """Decode the pixels."""
        if self._im is None:
            pixels = _to_8_bits(self._decode(self._content, index=0, numthreads=1))
            if pixels.shape[1::-1] != self._size:
                raise Damaged("it does not have as many pixels as its header says")
            image = Image.fromarray(pixels)
            self._mode, self.im = image.mode, image.im
            self._content = b""
        return Image.Image.load(self)


def _to_8_bits(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return (height, width, channels) uint8; grey has no axis for channels."""
    if pixels.ndim == 3 and pixels.shape[2] > 4:
        pixels = pixels[..., :4]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    scaled = np.empty(pixels.shape, np.uint8)
    for row, values in zip(scaled, pixels, strict=True):
        if pixels.dtype.kind == "f":
            row[:] = np.nan_to_num(np.clip(values.astype(np.float32), 0, 1) * 255).round()
        else:
            row[:] = values // 257
    return scaled


class _Bits:
    """Reads fields of a codestream, the lowest bit of each byte first."""

    def __init__(self, content: bytes) -> None:
        self._number = int.from_bytes(content, "little")
        self._left = 8 * len(content)

    def read(self, count: int) -> int:
        """Return the next bits as a number. Raises Damaged if there are fewer."""
        if count > self._left:
            raise Damaged("it ends in its header")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value


def _read_codestream(content: bytes) -> bytes:
    """Return the start of the codestream behind its signature. Raises Damaged."""
    stream = _unpack_codestream(content) if content.startswith(CONTAINER) else content
    if not stream.startswith(CODESTREAM):
        raise Damaged("it contains no image")
    return stream[len(CODESTREAM) : _HEADER]


def _unpack_codestream(content: bytes) -> bytes:
    """Return the start of the codestream in the boxes of a container (ISO/IEC 18181-2)."""
    found = b""
    for kind, start, end in _list_boxes(content):
        if len(found) >= _HEADER:
            break
        if kind in (b"jxlc", b"jxlp"):
            begin = start + 4 if kind == b"jxlp" else start  # behind its number
            found += content[begin : min(end, begin + _HEADER)]
    return found


def _list_boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box of a container, and where its data starts and ends."""
    position = 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 4])
        kind = content[position + 4 : position + 8]
        start = position + 8
        if length == 1:
            length = int.from_bytes(content[start : start + 8])
            start += 8
        end = position + length if length else len(content)
        if end <= position:
            break
        yield kind, start, end
        position = end


def _read_size(header: _Bits) -> tuple[int, int]:
    """Read the size before the image is turned upright, in pixels."""
    is_small = header.read(1)

    def read_side() -> int:
        if is_small:
            return (header.read(5) + 1) * 8
        return header.read(_SIDE_BITS[header.read(2)]) + 1

    height = read_side()
    ratio = header.read(3)
    if not ratio:
        return read_side(), height
    over, under = _RATIOS[ratio]
    return height * over // under, height


def _is_on_its_side(header: _Bits) -> bool:
    """Read whether turning the image upright swaps its sides."""
    is_default = header.read(1)
    if is_default or not header.read(1):
        return False
    return header.read(3) + 1 >= 5  # as in EXIF
