"""Opens BMP files, with the layouts of channels that Pillow lacks."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageFile

from models.formats.faults import Damaged, NotSupported

_HEADER = 138  # bytes of the file header and the longest bitmap header
_BITFIELDS = (3, 6)  # compressions that mean: the masks of the channels follow
_WITH_ALPHA = 6
_FIRST_MASK = 54  # its place in the file
_ALPHA_IN_HEADER = 56  # bytes of the shortest bitmap header that has a mask of alpha
_STRIP = 1 << 18  # pixels that are unpacked at a time


def open_bitmap(file: BinaryIO) -> Image.Image:
    """Open a BMP file at its start. Raises NotSupported, and what Pillow raises for damage."""
    masks = _read_masks(file.read(_HEADER))
    file.seek(0)
    if masks is not None:
        return BitfieldsImage(file, masks)
    try:
        return BmpImagePlugin.BmpImageFile(file)
    except OSError as error:
        if str(error).startswith("Unsupported BMP"):
            raise NotSupported("it is a BMP with a layout that is not supported") from error
        raise


def _read_masks(header: bytes) -> tuple[int, ...] | None:
    """Return the masks of red, green, blue and alpha in 16 or 32 bits; None without masks."""
    if len(header) < _FIRST_MASK + 16:
        return None
    size, _, _, _, bits, compression = struct.unpack_from("<IiiHHI", header, 14)
    if size < 40 or size == 64 or bits not in (16, 32) or compression not in _BITFIELDS:
        return None
    red, green, blue, alpha = struct.unpack_from("<4I", header, _FIRST_MASK)
    has_alpha = size >= _ALPHA_IN_HEADER or compression == _WITH_ALPHA
    return (red, green, blue, alpha if has_alpha else 0) if red | green | blue else None


class BitfieldsImage(ImageFile.ImageFile):
    """A BMP image of 16 or 32 bits a pixel, whose channels are where its masks say."""

    format = "BMP"

    def __init__(self, file: BinaryIO, masks: tuple[int, ...]) -> None:
        self._file = file
        self._masks = masks
        super().__init__(file)

    def _open(self) -> None:
        header = self._file.read(_HEADER)
        size, width, height, _, self._bits, _ = struct.unpack_from("<IiiHHI", header, 14)
        (start,) = struct.unpack_from("<I", header, 10)
        masks_end = _FIRST_MASK + (16 if self._masks[3] else 12)
        self._start = start or max(14 + size, masks_end)
        self._is_upright = height < 0  # otherwise the first row is the lowest
        self._size = width, abs(height)
        self._mode = "RGBA" if self._masks[3] else "RGB"
        self._channels = [
            _Channel(mask % (1 << self._bits)) for mask in self._masks[: len(self._mode)]
        ]

    def load(self) -> Any:
        """Unpack the pixels. Raises Damaged if some are missing."""
        if self._im is None:
            self.im = self._unpack().im
        return Image.Image.load(self)

    def _unpack(self) -> Image.Image:
        picture = Image.new(self.mode, self.size)
        self._file.seek(self._start)
        rows = max(1, _STRIP // self.width)
        is_clear = True
        for first in range(0, self.height, rows):
            pixels = self._read_rows(min(rows, self.height - first))
            is_clear = is_clear and not pixels[..., 3:].any()
            top = first if self._is_upright else self.height - first - len(pixels)
            picture.paste(Image.fromarray(pixels), (0, top))
        if is_clear and self.mode == "RGBA":  # programs that know no alpha leave it at zero
            picture.putalpha(255)
        return picture

    def _read_rows(self, count: int) -> NDArray[np.uint8]:
        """Return the next rows of the file, ``(count, width, channels)``, the upper ones first."""
        stride = (self._bits * self.width + 31) // 32 * 4
        content = self._file.read(count * stride)
        if len(content) < count * stride:
            raise Damaged("it ends before its last pixel")
        values = np.frombuffer(content, f"<u{self._bits // 8}").reshape(count, -1)[:, : self.width]
        pixels = np.stack([channel.unpack(values) for channel in self._channels], axis=-1)
        return pixels if self._is_upright else pixels[::-1]


class _Channel:
    """One channel of a pixel, as its mask describes it."""

    def __init__(self, mask: int) -> None:
        """Raises NotSupported if the mask has gaps."""
        self._mask = mask
        lowest = (mask & -mask).bit_length() - 1 if mask else 0
        most = mask >> lowest
        if most & (most + 1):
            raise NotSupported("it is a BMP whose channels are scattered bits")
        excess = max(0, most.bit_length() - 8)
        most >>= excess
        self._shift = lowest + excess
        self._levels = (np.arange(most + 1) * 255 / max(1, most)).round().astype(np.uint8)

    def unpack(self, values: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
        """Return the channel of each pixel, 0 to 255."""
        levels: NDArray[np.uint8] = self._levels[(values & self._mask) >> self._shift]
        return levels
