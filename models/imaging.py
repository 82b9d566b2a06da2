"""The one decode gate: bytes of unknown origin in, an upright RGB image out, or ImageRejected."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, WebPImagePlugin

from models.file_structure import check_structure

_T = TypeVar("_T")
Image.MAX_IMAGE_PIXELS = (
    None  # our own check comes first, counts frames too, and does not only warn
)
with suppress(ImportError):  # the extra `heif` adds the decoder for iPhone pictures
    importlib.import_module("pillow_heif").register_heif_opener()

MAX_PIXELS = 64_000_000  # width x height x frames
MAX_ASPECT_RATIO = 100

# Pillow's format name -> (media type, file extension). Anything else is refused, whatever Pillow could open.
FORMATS: dict[str, tuple[str, str]] = {
    "JPEG": ("image/jpeg", "jpg"),
    "MPO": (
        "image/jpeg",
        "jpg",
    ),  # a JPEG with further pictures behind the first, as phones write it
    "PNG": ("image/png", "png"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
    "BMP": ("image/bmp", "bmp"),
    "AVIF": ("image/avif", "avif"),
    "HEIF": ("image/heic", "heic"),
}

Image.preinit()
_OPENED = [
    name for name in FORMATS if name in Image.OPEN and name != "MPO"
]  # what opens a JPEG finds out whether it is an MPO
_PLUGINS = (AvifImagePlugin, WebPImagePlugin)  # imported for the decoders they register
_BITMAP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]
_FIRST_ON_ITS_SIDE = 5
_STRIP = 128  # rows
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


class ImageRejected(Exception):
    """The bytes are not an image this service takes; ``code`` is stable, the message says what is wrong and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright image: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class DecodedImage:
    """``image`` is RGB, upright, cut to the box if one was asked for, and perhaps smaller than the original.

    ``width`` and ``height`` are the whole original's, in pixels, after EXIF turning.
    """

    image: Image.Image
    mime: str
    extension: str
    width: int
    height: int


def decode(file: BinaryIO, *, min_side: int, box: Box | None = None) -> DecodedImage:
    """Decode all of the file's pixels (so that damage anywhere shows) and turn them upright.

    ``min_side``: the result's shorter side is at least that many pixels where the original has them; a JPEG is then
    decoded at 1/2, 1/4 or 1/8 by its own scaling, which is several times faster. Raises ImageRejected.
    """
    _guarded(lambda: check_structure(file))
    image = _guarded(lambda: _open(file))
    if (
        image.format == "PNG"
    ):  # Pillow loads a PNG with a wrong checksum in its pixel data; verify() does not
        _guarded(lambda: _open(file).verify())
        image = _guarded(lambda: _open(file))
    _check_size(image)
    mime, extension = FORMATS[image.format or ""]
    size = image.size
    shorter = min(box.width, box.height) if box else min(size)
    scale = min(1.0, min_side / max(1, shorter))

    def load() -> Image.Image:
        image.draft("RGB", (math.ceil(size[0] * scale), math.ceil(size[1] * scale)))
        image.load()
        return image

    pixels, orientation = _guarded(lambda: _upright(load()))
    width, height = size if orientation < _FIRST_ON_ITS_SIDE else size[::-1]
    if box is not None:
        _check_box(box, width, height)
        x, y = pixels.width / width, pixels.height / height
        pixels = pixels.crop(
            (
                math.floor(box.x * x),
                math.floor(box.y * y),
                min(pixels.width, math.ceil((box.x + box.width) * x)),
                min(pixels.height, math.ceil((box.y + box.height) * y)),
            )
        )
    return DecodedImage(image=pixels, mime=mime, extension=extension, width=width, height=height)


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """As RGB and turned, with the EXIF orientation, of a loaded image: looking for EXIF loads it and hides why that failed."""
    pixels, orientation = _to_rgb(image), _orientation(image)
    for turn in _TURNS.get(orientation, ()):
        pixels = pixels.transpose(turn)
    return pixels, orientation


def _open(file: BinaryIO) -> Image.Image:
    file.seek(0)
    head = file.read(32)
    file.seek(0)
    if not head:
        raise ImageRejected("empty-file", "The file has no bytes. Send the image's own bytes.")
    if not _looks_like_an_image(head):
        heif = ", HEIC." if "HEIF" in Image.OPEN else ". Convert the image to one of them."
        if _is_heif(head):
            heif = ". This one is HEIC, which is taken where the extra `heif` is installed; else convert it to JPEG."
        raise ImageRejected(
            "unsupported-image-type",
            f"The bytes are none of the image types taken here: JPEG, PNG, WebP, GIF, BMP, AVIF{heif}",
        )
    return Image.open(file, formats=_OPENED)


def _looks_like_an_image(head: bytes) -> bool:
    """Whether the first bytes are those of a format taken here, so that damage can be told from a foreign type."""
    if head[4:8] == b"ftyp":
        return ("HEIF" in Image.OPEN and _is_heif(head)) or any(
            brand in (b"avif", b"avis") for brand in _brands(head)
        )
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"[: len(head[8:12])]
    bitmap = (
        head[:2] == b"BM" and head[14:18] in _BITMAP_HEADERS
    )  # two letters alone are too few: texts begin with them
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
    return head[8:12], head[16:20], head[20:24], head[24:28]


def _guarded(step: Callable[[], _T]) -> _T:
    """Run one Pillow step; whatever it raises on hostile bytes (a dozen types over the formats) means the same to us."""
    try:
        return step()
    except ImageRejected:
        raise
    except Exception as error:
        raise ImageRejected(
            "invalid-image",
            f"The image cannot be decoded ({error or type(error).__name__}). It is damaged or cut short; send it again whole.",
        ) from error


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    frames = 1 if image.format == "MPO" else _guarded(lambda: int(getattr(image, "n_frames", 1)))
    if width * height * frames > MAX_PIXELS:
        raise ImageRejected(
            "too-many-pixels",
            f"{width} x {height} pixels in {frames} frame(s) is over the limit of {MAX_PIXELS // 1_000_000} megapixels."
            " Send a smaller version.",
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageRejected(
            "bad-aspect-ratio",
            f"{width} x {height} is more than {MAX_ASPECT_RATIO} times longer than wide. Cut the image.",
        )


def _check_box(box: Box, width: int, height: int) -> None:
    inside = 0 <= box.x < box.x + box.width <= width and 0 <= box.y < box.y + box.height <= height
    if not inside:
        raise ImageRejected(
            "invalid-box",
            f"The box {box.x},{box.y},{box.width},{box.height} does not lie inside the upright image"
            f" of {width} x {height} pixels.",
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the EXIF block is missing or broken, which does not spoil the picture."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a hostile EXIF block fails in many ways
        return 1
    return value if value in _TURNS else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: transparency on white, 16 bits scaled rather than clipped."""
    if image.mode.startswith("I"):
        return _to_8_bits(image).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8, a strip at a time: the wider numbers in between would take eight times the memory."""
    transparent = image.info.get("transparency")
    scaled = Image.new("L", image.size)
    for top in range(0, image.height, _STRIP):
        part = image.crop((0, top, image.width, min(image.height, top + _STRIP)))
        values = np.clip(np.asarray(part, dtype=np.int64), 0, 65535)
        if isinstance(transparent, int):
            values = np.where(values == transparent, 65535, values)
        scaled.paste(Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)), (0, top))
    return scaled
