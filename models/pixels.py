"""Turns the pixels of a loaded image upright and into 8-bit RGB, with little memory beside them."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from models.capture.exif import MAX_BLOCK
from models.colour import Conversion
from models.formats.exif import read_exif_orientation
from models.formats.tiff import DeepTiff

_FIRST_ON_ITS_SIDE = 5  # EXIF orientations from 5 on swap width and height
_STRIP = 128  # rows
# EXIF orientation -> the Pillow transposition that turns the image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RGB_BYTES = 4  # Pillow pads RGB to 32 bits
# What one pixel of these formats takes while it is decoded, in bytes, as measured with 64
# megapixels: their libraries keep buffers of their own.
_DECODER_BYTES = {"WEBP": 16, "AVIF": 14, "HEIF": 14}
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 4}


def memory_per_pixel(image: Image.Image) -> int:
    """Return how many bytes a pixel takes at the peak of decoding and converting an image."""
    known = getattr(image, "bytes_per_pixel", None) or _DECODER_BYTES.get(image.format or "")
    return known or _MODE_BYTES.get(image.mode, 4) + _RGB_BYTES


def read_orientation(image: Image.Image) -> int:
    """Return the orientation of an opened image, 1 to 8, as browsers see it.

    It is 1 if the EXIF block is missing or broken. An orientation in XMP is ignored, and so are one
    in the EXIF of a WebP file and one behind the pixels of a PNG, so it must be read before they
    are loaded. Pillow turns a TIFF that it has opened upright itself, as the decoder
    of JPEG XL does.
    """
    if image.format in ("WEBP", "JXL") or isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    if isinstance(image, DeepTiff):
        return image.orientation
    block = image.info.get("exif")
    if image.format in ("JPEG", "MPO", "PNG"):
        return read_exif_orientation(block) if isinstance(block, bytes) else 1
    try:
        if isinstance(block, bytes):
            exif = Image.Exif()
            exif.load(block[:MAX_BLOCK])
        else:
            exif = image.getexif() if "xmp" not in image.info else Image.Exif()
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a hostile EXIF block fails in many ways
        return 1
    return value if value in _TURNS else 1


def is_on_its_side(orientation: int) -> bool:
    """Whether turning an image of this EXIF orientation upright swaps width and height."""
    return orientation >= _FIRST_ON_ITS_SIDE


def turn_upright(
    image: Image.Image, orientation: int, conversion: Conversion | None
) -> Image.Image:
    """Convert a loaded image to RGB, by the conversion of its profile if any, and turn it upright.

    The image must not be used afterwards: its memory is freed before another copy is made.
    """
    pixels = _convert_to_rgb(image, conversion)
    if pixels is not image:
        free_pixels(image)
    turn = _TURNS.get(orientation)
    return pixels if turn is None else pixels.transpose(turn)


def free_pixels(image: Image.Image) -> None:
    """Free the memory of an image. Its own ``close`` would also close the caller's file."""
    Image.Image.close(image)


def _convert_to_rgb(image: Image.Image, conversion: Conversion | None) -> Image.Image:
    """Convert to 8-bit RGB: put transparency on white, and scale 16-bit values down."""
    if image.mode.startswith("I"):
        image = _scale_to_8_bits(image)
    elif "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return _put_on_white(image, conversion)
    if conversion is not None:
        return conversion.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _put_on_white(image: Image.Image, conversion: Conversion | None) -> Image.Image:
    """Put a transparent image on white, a strip of rows at a time to save memory."""
    white = Image.new("RGB", image.size, "white")
    for top in range(0, image.height, _STRIP):
        rgba = image.crop((0, top, image.width, min(image.height, top + _STRIP))).convert("RGBA")
        colours = rgba if conversion is None else conversion.apply(rgba)
        white.paste(colours, (0, top), mask=rgba.getchannel("A"))
    return white


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey values to 8 bits.

    It works on one strip of rows at a time, because the 64-bit intermediate values of a whole
    image would take eight times its memory.
    """
    transparent = image.info.get("transparency")
    scaled = Image.new("L", image.size)
    for top in range(0, image.height, _STRIP):
        part = image.crop((0, top, image.width, min(image.height, top + _STRIP)))
        values = np.clip(np.asarray(part, dtype=np.int64), 0, 65535)
        if isinstance(transparent, int):
            values = np.where(values == transparent, 65535, values)
        scaled.paste(Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)), (0, top))
    return scaled
