"""Decodes images of unknown origin: returns an upright RGB image or raises ImageRejected.

Every upload, sample and training image passes through ``decode_image``; nothing else opens files
with Pillow.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from PIL import AvifImagePlugin, Image, WebPImagePlugin

from models.capture.values import Capture
from models.formats import avif, jpeg, png
from models.formats.bitmap import open_bitmap
from models.formats.faults import Damaged, NotSupported, TooManyPieces
from models.formats.signatures import HEAD, describe_unknown_type, recognise_format
from models.formats.sizes import find_claimed_size
from models.pixels import is_on_its_side, memory_per_pixel, read_orientation, turn_upright

_T = TypeVar("_T")
# _check_size is stricter than Pillow's check: it rejects instead of warning.
Image.MAX_IMAGE_PIXELS = None
with suppress(ImportError):  # the extra `heif` adds the decoder for the images of iPhones
    importlib.import_module("pillow_heif").register_heif_opener()

MAX_PIXELS = 64_000_000  # of the still picture, or of the first frame
MAX_ASPECT_RATIO = 100
_LONGEST_HEADER = 1 << 20  # bytes in which an image that cannot be opened may say its size

# Pillow's format name -> (media type, file extension). Other formats are rejected, even those that
# Pillow could open.
FORMATS: dict[str, tuple[str, str]] = {
    "JPEG": ("image/jpeg", "jpg"),
    "MPO": ("image/jpeg", "jpg"),  # a JPEG followed by further images, as some phones write it
    "PNG": ("image/png", "png"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "BMP": ("image/bmp", "bmp"),
    "AVIF": ("image/avif", "avif"),
    "HEIF": ("image/heic", "heic"),
}

# Pillow's format name -> what lets a file be opened whose metadata are broken.
_HIDE_METADATA = {"JPEG": jpeg.hide_metadata, "AVIF": avif.hide_metadata}

Image.preinit()
_PLUGINS = (AvifImagePlugin, WebPImagePlugin)  # imported for the decoders that they register


class ImageRejected(Exception):
    """The bytes are not an image that the service accepts.

    ``code`` is a stable identifier for API clients: empty-file, unsupported-image-type,
    invalid-image, too-many-pixels, bad-aspect-ratio or invalid-box. The message says what is wrong
    and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright image; ``x`` and ``y`` are its left and top edges."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and what is known about its file.

    ``image`` is RGB, upright, cropped to the requested box if any, and possibly smaller than the
    original. ``width`` and ``height`` are those of the whole upright original, in pixels.
    ``capture`` is what was read of its metadata, or None if nothing was to be read.
    """

    image: Image.Image
    mime: str
    extension: str
    width: int
    height: int
    capture: Capture | None = None


def decode_image(
    file: BinaryIO,
    *,
    min_side: int,
    box: Box | None = None,
    admit: Callable[[int], None] | None = None,
    read_metadata: Callable[[Image.Image], Capture] | None = None,
) -> DecodedImage:
    """Decode a file from its start and turn the image upright.

    Every pixel is decoded, so damage anywhere is detected. The shorter side of the result has at
    least ``min_side`` pixels if the original has them; within that limit a JPEG is decoded at
    1/2, 1/4 or 1/8 of its size, which is several times faster. ``admit`` is called with an estimate
    of the memory in bytes before any pixel is decoded, and may raise. ``read_metadata`` is called
    with the loaded image before it is turned. Raises ImageRejected.
    """
    image, channels = _guard(lambda: _open(file))
    mime, extension = FORMATS[image.format or ""]
    size = image.size
    shorter = min(box.width, box.height) if box else min(size)
    scale = min(1.0, min_side / max(1, shorter))
    image.draft("RGB", (math.ceil(size[0] * scale), math.ceil(size[1] * scale)))
    if admit is not None:
        admit(_estimate_memory(image, size, channels))

    def load() -> tuple[Image.Image, int, Capture | None]:
        image.load()
        # Reading EXIF loads the image too, but hides why that failed.
        orientation = read_orientation(image)
        capture = None if read_metadata is None else read_metadata(image)
        return turn_upright(image, orientation), orientation, capture

    pixels, orientation, capture = _guard(load)
    width, height = size[::-1] if is_on_its_side(orientation) else size
    if box is not None:
        _check_box(box, width, height)
        pixels = _crop(pixels, box, width, height)
    return DecodedImage(pixels, mime, extension, width, height, capture)


def inspect_image(
    file: BinaryIO,
    read_metadata: Callable[[Image.Image], Capture],
    admit: Callable[[int], None] | None = None,
) -> DecodedImage:
    """Check a file as ``decode_image`` does, and read its metadata, without decoding its pixels.

    Those of a PNG are decoded, because metadata may follow them. The image that is returned is not
    usable. Raises ImageRejected.
    """
    image, channels = _guard(lambda: _open(file))
    if image.format == "PNG":
        if admit is not None:
            admit(_estimate_memory(image, image.size, channels))
        _guard(image.load)
    mime, extension = FORMATS[image.format or ""]
    width, height = image.size[::-1] if is_on_its_side(read_orientation(image)) else image.size
    return DecodedImage(image, mime, extension, width, height, read_metadata(image))


def _estimate_memory(image: Image.Image, size: tuple[int, int], channels: int) -> int:
    """Estimate the bytes that decoding and converting an opened image takes.

    ``size`` is that of the file, and ``channels`` the number in the first scan of a JPEG. libjpeg
    keeps 16-bit coefficients of the whole image, however small it is decoded, if it is progressive
    or its channels are in several scans.
    """
    estimate = math.prod(image.size) * memory_per_pixel(image)
    if image.info.get("progressive") or 0 < channels < len(image.getbands()):
        estimate += math.prod(size) * 2 * len(image.getbands())
    return estimate


def _crop(pixels: Image.Image, box: Box, width: int, height: int) -> Image.Image:
    """Crop to a box that is given in pixels of the original ``width`` and ``height``."""
    x, y = pixels.width / width, pixels.height / height
    return pixels.crop(
        (
            math.floor(box.x * x),
            math.floor(box.y * y),
            min(pixels.width, math.ceil((box.x + box.width) * x)),
            min(pixels.height, math.ceil((box.y + box.height) * y)),
        )
    )


def _open(file: BinaryIO) -> tuple[Image.Image, int]:
    """Open a file of an accepted type, and check its size.

    Returns it with the number of channels in the first scan of a JPEG; 0 for other formats.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise ImageRejected(
            "empty-file", "The file is empty. Send the bytes of the image as the file's content."
        )
    kind = recognise_format(head)
    if kind is None:
        raise ImageRejected("unsupported-image-type", describe_unknown_type(head))
    file.seek(0)
    channels = 0
    if kind == "JPEG":
        channels = jpeg.check_structure(file.read())
    elif kind == "PNG":
        file = png.select_chunks(file)
    try:
        image = _open_with_pillow(kind, file)
    except Exception:
        file.seek(0)
        claimed = find_claimed_size(kind, file.read(_LONGEST_HEADER))
        if claimed is not None:  # the decoder may have refused it for its size
            _check_size(*claimed)
        raise
    _check_size(*image.size)
    return image, channels


def _open_with_pillow(kind: str, file: BinaryIO) -> Image.Image:
    file.seek(0)
    if kind == "BMP":
        return open_bitmap(file)
    # Image.open would hide why a file cannot be opened.
    opener, _ = Image.OPEN[kind]
    try:
        return opener(file, "")
    except Exception:
        if kind not in _HIDE_METADATA:
            raise
    file.seek(0)
    return opener(io.BytesIO(_HIDE_METADATA[kind](file.read())), "")


def _guard(step: Callable[[], _T]) -> _T:
    """Run one step of decoding and turn whatever it raises into ImageRejected.

    On hostile bytes Pillow raises a dozen exception types, which all mean the same here.
    """
    try:
        return step()
    except ImageRejected:
        raise
    except NotSupported as error:
        message = (
            f"The image cannot be decoded because {error}. Convert it to an 8-bit JPEG or PNG."
        )
        raise ImageRejected("unsupported-image-type", message) from error
    except Exception as error:
        raise ImageRejected("invalid-image", _describe_damage(error)) from error


def _describe_damage(error: Exception) -> str:
    """Describe why an image cannot be decoded, without words of Pillow: they may be a repr."""
    if isinstance(error, TooManyPieces):
        return f"The image cannot be decoded because {error}. Save it again in an image editor."
    if isinstance(error, Damaged):
        reason = str(error)
    elif "truncated" in str(error).lower():
        reason = "it ends before its last pixel"
    else:
        reason = "its header or its pixels are damaged"
    return (
        f"The image cannot be decoded because {reason}. Send the complete file, or save it again in"
        " an image editor."
    )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageRejected(
            "too-many-pixels",
            f"The image has {width} x {height} pixels, which is over the limit of"
            f" {MAX_PIXELS // 1_000_000} megapixels. Send a smaller version.",
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageRejected(
            "bad-aspect-ratio",
            f"The image has {width} x {height} pixels, so one side is more than {MAX_ASPECT_RATIO}"
            " times as long as the other. Crop it.",
        )


def _check_box(box: Box, width: int, height: int) -> None:
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise ImageRejected(
            "invalid-box",
            f"The box {box.x},{box.y},{box.width},{box.height} (x,y,width,height) is empty or does"
            f" not lie inside the upright image of {width} x {height} pixels. Choose a box that"
            " does.",
        )
