"""Opens TIFF files: with Pillow where it reads the pixels correctly, otherwise with tifffile.

Pillow reads what scanners and image editors write by default. The extra ``tiff`` adds pixels of
floats or of 32 bits, several planes of 16 bits, and rarer codings.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from models.formats.faults import Damaged, NotSupported

# Tags (TIFF 6.0)
_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PLANAR = 258, 259, 262, 274, 284
_EXTRA, _SAMPLE_FORMAT, _XMP, _PROFILE = 338, 339, 700, 34675
_WEBP = 50001  # a coding that Pillow's libtiff does not know
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _CIELAB, _ICCLAB = 0, 1, 2, 5, 8, 9
_SEPARATE = 2  # each channel has a plane of its own
_UNSIGNED = 1
# Photometric interpretation -> the channels of the image, without transparency.
_MODES = {
    _WHITE_IS_ZERO: "L",
    _BLACK_IS_ZERO: "L",
    _RGB: "RGB",
    _CMYK: "CMYK",
    _CIELAB: "LAB",
    _ICCLAB: "LAB",
}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # kinds of transparency: colours are multiplied by it, or not
_STRIP = 128  # rows
_UNKNOWN_MODES = ("unknown pixel mode", "unknown data organization")
_PILLOW_BYTES = 8  # of a pixel: the image and its RGB


def open_tiff(file: BinaryIO) -> Image.Image:
    """Open the first page of a TIFF file.

    Raises NotSupported if only the extra ``tiff`` could read it, and what Pillow raises.
    """
    try:
        image = UsualTiff(file)
    except Exception as error:
        if not has_tifffile() and not _is_intact(file, error):
            raise
    else:
        if _is_read_right(image):
            return image
    if not has_tifffile():
        raise NotSupported(
            "it is a TIFF of a kind that needs the extra `tiff`, such as floats or 32 bits per"
            " channel, and this service does not have it"
        )
    file.seek(0)
    return DeepTiff(file)


def has_tifffile() -> bool:
    """Whether the extra ``tiff`` is installed."""
    return all(importlib.util.find_spec(name) for name in ("tifffile", "imagecodecs"))


class UsualTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF that Pillow reads. Pillow also turns it upright, and gives its size as it is then."""

    @property
    def bytes_per_pixel(self) -> int:
        """How many bytes a pixel takes at the peak of decoding and converting.

        libtiff decodes one strip or tile at a time, which may be the whole image.
        """
        return _PILLOW_BYTES - (-int(sum(self.tag_v2.get(_BITS, (1,)))) // 8)


def _is_intact(file: BinaryIO, error: Exception) -> bool:
    """Whether Pillow refuses a file because it does not know its kind, not because of damage."""
    file.seek(0)
    is_big_endian_bigtiff = file.read(4) == b"MM\0+"
    return is_big_endian_bigtiff or str(error) in _UNKNOWN_MODES or _names_unknown_coding(error)


def _names_unknown_coding(error: Exception) -> bool:
    return isinstance(error.__cause__, KeyError)


def _is_read_right(image: UsualTiff) -> bool:
    """Whether the pixels that Pillow reads are those of the file.

    It reads planes of 16 bits as if they were of 8, and does not know what floats mean.
    """
    tags = image.tag_v2
    bits = max(tags.get(_BITS, (1,)))
    separate = tags.get(_PLANAR, 1) == _SEPARATE
    return (
        set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == {_UNSIGNED}
        and bits <= 16
        and not (separate and (bits > 8 or tags.get(_EXTRA)))
        and not (bits > 8 and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
        and tags.get(_COMPRESSION) != _WEBP
        and image.mode != "La"
    )


class DeepTiff(ImageFile.ImageFile):
    """A TIFF whose samples tifffile reads, and which become 8 bits here.

    ``orientation`` is that of EXIF, 1 to 8.
    """

    format = "TIFF"

    def _open(self) -> None:
        tifffile = importlib.import_module("tifffile")
        opened = tifffile.TiffFile(self.fp)
        page = opened.pages.first
        mode = _MODES.get(int(page.photometric or 0))
        depth = getattr(page, "imagedepth", 1)
        if mode is None or depth != 1 or page.samplesperpixel < len(mode):
            raise NotSupported("it is a TIFF whose kind of colours is not supported")
        self._page = page
        kinds = [int(kind) for kind in page.extrasamples]
        self._alpha = next(
            (kind for kind in kinds[:1] if kind in (_ASSOCIATED, _UNASSOCIATED)), None
        )
        if mode not in ("L", "RGB"):
            self._alpha = None
        self._colours = len(mode)
        self._mode = mode + "A" if self._alpha else mode
        self._size = page.imagewidth, page.imagelength
        orientation = page.tags.valueof(_ORIENTATION)
        self.orientation = orientation if orientation in range(2, 9) else 1
        for name, tag in (("icc_profile", _PROFILE), ("xmp", _XMP)):
            block = page.tags.valueof(tag)
            if isinstance(block, bytes):
                self.info[name] = block
        self._read_exif(opened.byteorder, is_bigtiff=opened.is_bigtiff, directory=page.offset)
        samples = page.samplesperpixel * page.dtype.itemsize
        # The samples, a strip of them that may be all, the 8 bits, and Pillow's two images.
        self.bytes_per_pixel = 2 * samples + len(self._mode) + _PILLOW_BYTES

    def _read_exif(self, byteorder: str, *, is_bigtiff: bool, directory: int) -> None:
        """Let Pillow read the directory at that position of the file as an EXIF block."""
        exif = self.getexif()
        exif.endian, exif.bigtiff = byteorder, is_bigtiff
        with suppress(Exception):  # Pillow knows no big-endian BigTIFF, and a directory may lie
            exif.load_from_fp(cast("BinaryIO", self.fp), directory)

    def load(self) -> Any:
        """Read the samples, and scale them to 8 bits."""
        if self._im is None:
            pixels = self._read_pixels()
            self.im = Image.fromarray(pixels[..., 0] if self.mode == "L" else pixels, self.mode).im
        return Image.Image.load(self)

    def _read_pixels(self) -> NDArray[np.uint8]:
        """Return (height, width, channels) uint8. Raises Damaged."""
        samples = self._page.asarray(maxworkers=1)
        if samples.ndim == 2:
            samples = samples[..., None]
        elif self._page.planarconfig == _SEPARATE:
            samples = np.moveaxis(samples, 0, -1)
        samples = samples[..., : len(self._mode)]
        if samples.shape != (self.height, self.width, len(self._mode)):
            raise Damaged("it does not have as many pixels as its header says")
        to_8_bits = _Scale(samples, self._page.bitspersample, self._page.photometric)
        pixels = np.empty((*samples.shape[:2], len(self._mode)), np.uint8)
        for top in range(0, len(pixels), _STRIP):
            strip = to_8_bits.apply(samples[top : top + _STRIP])
            if self._alpha == _ASSOCIATED:
                _divide_by_alpha(strip)
            pixels[top : top + _STRIP] = strip
        return pixels


class _Scale:
    """Scales samples to 8 bits.

    Unsigned numbers are scaled by their bits. Floats from 0 to 1 are scaled by 255. Other floats
    and signed numbers are scaled so that the least becomes black and the greatest white.
    """

    def __init__(self, samples: NDArray[Any], bits: int, photometric: int) -> None:
        self._photometric = photometric
        self._least, self._greatest = 0.0, 1.0
        if samples.dtype.kind == "u":
            self._greatest = float(2**bits - 1)
            return
        for top in range(0, len(samples), _STRIP):
            strip = samples[top : top + _STRIP].astype(np.float32)
            finite = strip[np.isfinite(strip)]
            self._least = min(self._least, finite.min(initial=0.0))
            self._greatest = max(self._greatest, finite.max(initial=0.0))

    def apply(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Return a strip of samples as uint8."""
        if self._photometric in (_CIELAB, _ICCLAB) and samples.dtype.kind != "f":
            return self._scale_lab(samples)
        if self._photometric == _CIELAB:  # L from 0 to 100, a and b from -128 to 127
            lab = np.nan_to_num(samples.astype(np.float32) * (2.55, 1, 1) + (0, 128, 128))
            pixels: NDArray[np.uint8] = np.clip(lab, 0, 255).astype(np.uint8)
            pixels[..., 1:] ^= 0x80
            return pixels
        share = (samples.astype(np.float32) - self._least) / (self._greatest - self._least)
        pixels = np.nan_to_num(np.clip(share, 0, 1) * 255).round().astype(np.uint8)
        if self._photometric == _WHITE_IS_ZERO:
            pixels[..., 0] = 255 - pixels[..., 0]
        return pixels

    def _scale_lab(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale L*a*b* with signed a and b, or with 128 added to them (ICC), to signed bytes."""
        pixels: NDArray[np.uint8] = (
            samples.astype(np.int64) >> (samples.dtype.itemsize * 8 - 8)
        ).astype(np.uint8)
        if self._photometric == _ICCLAB:
            pixels[..., 1:] ^= 0x80
        return pixels


def _divide_by_alpha(pixels: NDArray[np.uint8]) -> None:
    """Undo the multiplication of colours by their transparency, in place."""
    alpha = np.maximum(pixels[..., -1:].astype(np.float32), 1)
    colours = pixels[..., :-1].astype(np.float32)
    pixels[..., :-1] = np.minimum(255, colours * 255 / alpha)
