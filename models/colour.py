"""Converts images by their embedded colour profile (ICC) to sRGB, the colours a browser shows."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from models.png_colours import describe_colours

MAX_PROFILE = 4 << 20  # bytes; profiles for print have up to 3 MB
_HEADER = 128  # bytes (ICC.1:2010, table 17)
_ENTRY = 12  # bytes of an entry of the tag table
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")  # others do not describe the colours of an image
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}  # colour space -> Pillow's mode
_UNNOTICED = 2  # of 255: how far a profile may be from sRGB and still count as sRGB
_KEPT = 8  # conversions; one for print takes 2 MB


@dataclass(frozen=True)
class Conversion:
    """Converts images of one colour profile to sRGB. Thread-safe.

    ``mode`` is that of its input: ``RGB``, ``L`` or ``CMYK``.
    """

    mode: str
    transform: ImageCms.ImageCmsTransform

    def apply(self, image: Image.Image) -> Image.Image:
        """Return an image as RGB in sRGB. The image itself may be changed, to save memory."""
        source = image if image.mode == self.mode else image.convert(self.mode)
        in_place = self.mode == "RGB" and not source.readonly
        return self.transform.apply(source, source if in_place else None)


def find_conversion(image: Image.Image) -> Conversion | None:
    """Return the conversion to sRGB that an opened image needs.

    It needs none if it has no profile, or that of sRGB. A PNG may state gamma and primaries
    instead. A profile that is broken, too large or made for another kind of image is ignored.
    """
    profile = image.info.get("icc_profile") or describe_colours(image.info)
    if not isinstance(profile, bytes) or not _HEADER < len(profile) <= MAX_PROFILE:
        return None
    mode = _MODES.get(profile[16:20])
    if mode is None or not _describes(mode, image.mode) or profile[12:16] not in _CLASSES:
        return None
    return _conversions.find_or_build(profile, mode)


def _describes(profile: str, image: str) -> bool:
    """Whether a profile of one mode applies to images of another, as in browsers.

    Colours on a palette are RGB, and grey may have a profile of either kind.
    """
    is_grey = image in ("1", "L", "LA", "La") or image.startswith("I")
    if profile == "RGB":
        return is_grey or image in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
    return is_grey if profile == "L" else image == profile


class _Conversions:
    """The conversions of the profiles that were used last; building one takes 2 to 100 ms."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Conversion | None] = OrderedDict()

    def find_or_build(self, profile: bytes, mode: str) -> Conversion | None:
        digest = hashlib.sha256(profile).digest()
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = _build_conversion(profile, mode)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(digest)
            return self._kept[digest]


_conversions = _Conversions()


def _build_conversion(profile: bytes, mode: str) -> Conversion | None:
    """Return None if the profile is broken, or hardly differs from sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(_hide_float_tables(profile)))
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    conversion = Conversion(mode, transform)
    return None if _is_unnoticed(conversion) else conversion


def _hide_float_tables(profile: bytes) -> bytes:
    """Rename the tags with floating-point tables, which littleCMS prefers and browsers ignore.

    They may chain any number of elements, so that each pixel takes seconds.
    """
    content = bytearray(profile)
    count = int.from_bytes(profile[_HEADER : _HEADER + 4])
    for start in range(_HEADER + 4, min(_HEADER + 4 + count * _ENTRY, len(profile)), _ENTRY):
        if content.startswith((b"D2B", b"B2D"), start):
            content[start : start + 3] = b"xxx"
    return bytes(content)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    """Return sRGB as a profile of version 2.

    With one of version 4, littleCMS compensates for black points; browsers do not.
    """
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    content[8:10] = b"\x02\x40"
    return ImageCms.ImageCmsProfile(io.BytesIO(content))


def _is_unnoticed(conversion: Conversion) -> bool:
    """Whether a conversion changes no colour noticeably, tried on greys and a grid of colours."""
    if conversion.mode == "CMYK":
        return False
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)
    axis = np.linspace(0, 255, 9).astype(int)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    colours = greys if conversion.mode == "L" else np.concatenate([greys, grid])
    image = Image.fromarray(colours[None].astype(np.uint8))
    converted = np.asarray(conversion.apply(image.copy()))[0].astype(int)
    return bool(np.abs(converted - colours).max() <= _UNNOTICED)
