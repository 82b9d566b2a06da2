"""Decodes images of unknown origin: returns an upright RGB image or raises ImageRejected.

Every upload, sample and training image passes through ``decode_image``; nothing else opens files
with Pillow.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from PIL import AvifImagePlugin, Image, WebPImagePlugin

from models.file_structure import TooManyPieces, check_structure
from models.pixels import is_on_its_side, memory_per_pixel, read_orientation, turn_upright

_T = TypeVar("_T")
# _check_size is stricter than Pillow's check: it counts frames, and it rejects instead of warning.
Image.MAX_IMAGE_PIXELS = None
with suppress(ImportError):  # the extra `heif` adds the decoder for the images of iPhones
    importlib.import_module("pillow_heif").register_heif_opener()

MAX_PIXELS = 64_000_000  # width x height x frames
MAX_ASPECT_RATIO = 100

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

Image.preinit()
# Pillow's JPEG plugin recognises MPO itself.
_OPENED = [name for name in FORMATS if name in Image.OPEN and name != "MPO"]
_PLUGINS = (AvifImagePlugin, WebPImagePlugin)  # imported for the decoders that they register
_BITMAP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]


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
    """

    image: Image.Image
    mime: str
    extension: str
    width: int
    height: int


def decode_image(
    file: BinaryIO,
    *,
    min_side: int,
    box: Box | None = None,
    admit: Callable[[int], None] | None = None,
) -> DecodedImage:
    """Decode a file from its start and turn the image upright.

    Every pixel is decoded, so damage anywhere is detected. The shorter side of the result has at
    least ``min_side`` pixels if the original has them; within that limit a JPEG is decoded at
    1/2, 1/4 or 1/8 of its size, which is several times faster. ``admit`` is called with an estimate
    of the memory in bytes before any pixel is decoded, and may raise. Raises ImageRejected.
    """
    channels = _guard(lambda: check_structure(file))
    image = _guard(lambda: _open(file))
    if image.format == "PNG":
        # load() accepts a PNG whose pixel data has a wrong checksum; verify() does not, but it
        # leaves the image unusable.
        _guard(lambda: _open(file).verify())
        image = _guard(lambda: _open(file))
    _check_size(image)
    mime, extension = FORMATS[image.format or ""]
    size = image.size
    shorter = min(box.width, box.height) if box else min(size)
    scale = min(1.0, min_side / max(1, shorter))
    image.draft("RGB", (math.ceil(size[0] * scale), math.ceil(size[1] * scale)))
    if admit is not None:
        admit(_estimate_memory(image, size, channels))

    def load() -> tuple[Image.Image, int]:
        image.load()
        # Reading EXIF loads the image too, but hides why that failed.
        orientation = read_orientation(image)
        return turn_upright(image, orientation), orientation

    pixels, orientation = _guard(load)
    width, height = size[::-1] if is_on_its_side(orientation) else size
    if box is not None:
        _check_box(box, width, height)
        pixels = _crop(pixels, box, width, height)
    return DecodedImage(image=pixels, mime=mime, extension=extension, width=width, height=height)


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


def _open(file: BinaryIO) -> Image.Image:
    file.seek(0)
    head = file.read(32)
    file.seek(0)
    if not head:
        raise ImageRejected(
            "empty-file", "The file is empty. Send the bytes of the image as the file's content."
        )
    if not _has_known_signature(head):
        raise ImageRejected("unsupported-image-type", _describe_unsupported_type(head))
    return Image.open(file, formats=_OPENED)


def _describe_unsupported_type(head: bytes) -> str:
    accepted = "JPEG, PNG, WebP, GIF, BMP and AVIF"
    if "HEIF" in Image.OPEN:
        accepted = "JPEG, PNG, WebP, GIF, BMP, AVIF and HEIC"
    elif _is_heif(head):
        return (
            f"The file is a HEIC image, but this service accepts only {accepted}. Convert it to"
            " JPEG, or ask the operator to install the extra `heif`."
        )
    return f"The file is not an image of an accepted type: {accepted}. Convert it to one of these."


def _has_known_signature(head: bytes) -> bool:
    """Whether the first 32 bytes belong to an accepted format.

    This distinguishes a damaged image from a file of another type.
    """
    if head[4:8] == b"ftyp":
        return ("HEIF" in Image.OPEN and _is_heif(head)) or any(
            brand in (b"avif", b"avis") for brand in _brands(head)
        )
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"[: len(head[8:12])]
    # The letters BM are not enough, because a text may begin with them.
    bitmap = head[:2] == b"BM" and head[14:18] in _BITMAP_HEADERS
    return (
        webp
        or bitmap
        or head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
    )


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and any(
        brand in (b"heic", b"heix", b"mif1", b"msf1") for brand in _brands(head)
    )


def _brands(head: bytes) -> tuple[bytes, ...]:
    """Return the major brand and the first compatible brands (ISO/IEC 14496-12, 4.3)."""
    return head[8:12], head[16:20], head[20:24], head[24:28]


def _guard(step: Callable[[], _T]) -> _T:
    """Run one Pillow step and turn whatever it raises into ImageRejected.

    On hostile bytes Pillow raises a dozen exception types, which all mean the same here.
    """
    try:
        return step()
    except ImageRejected:
        raise
    except Exception as error:
        raise ImageRejected("invalid-image", _describe_damage(error)) from error


def _describe_damage(error: Exception) -> str:
    if isinstance(error, TooManyPieces):
        return f"The image cannot be decoded because {error}. Save it again in an image editor."
    # Some of Pillow's messages contain the repr and address of a file object.
    reason = "" if "<" in str(error) or not str(error) else f" ({error})"
    return (
        f"The image cannot be decoded{reason}. The file is probably damaged or incomplete: send"
        " the complete file, or save it again in an image editor."
    )


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    frames = 1 if image.format == "MPO" else _guard(lambda: int(getattr(image, "n_frames", 1)))
    if width * height * frames > MAX_PIXELS:
        raise ImageRejected(
            "too-many-pixels",
            f"The image has {width} x {height} pixels in {frames} frame(s), which is over the limit"
            f" of {MAX_PIXELS // 1_000_000} megapixels. Send a smaller version.",
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
