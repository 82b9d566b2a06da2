"""Says what opens the files of each format, and which extra adds it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image

from models.formats import camera_raw
from models.formats.bitmap import open_bitmap
from models.formats.jpeg_xl import JpegXl
from models.formats.tiff import open_tiff

Opener = Callable[[BinaryIO], Image.Image]

# Those that Pillow does not open, or not as it should.
_OPENERS: dict[str, Opener] = {
    "BMP": open_bitmap,
    "TIFF": open_tiff,
    "JXL": JpegXl,
}
# Format -> what people call it, the extra that adds it, and the library that the extra installs.
_EXTRAS = {
    "HEIF": ("HEIC", "heif", "pillow_heif"),
    "JXL": ("JPEG XL", "jxl", "imagecodecs"),
    **dict.fromkeys(camera_raw.FORMATS, ("camera raw", "raw", "rawpy")),
}
_ALWAYS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "AVIF", "TIFF")


def find_opener(kind: str | None) -> Opener | None:
    """Return what opens a format of ``recognise_format``; None if it is not accepted."""
    if kind is None or not _is_installed(kind):
        return None
    if kind in camera_raw.FORMATS:
        kind = "JPEG"  # their preview
    return _OPENERS.get(kind) or find_pillows_opener(kind)


def find_pillows_opener(kind: str) -> Opener:
    """Return what opens a format that Pillow knows."""
    # Image.open would hide why a file cannot be opened.
    opener, _ = Image.OPEN[kind]
    return lambda file: opener(file, "")


def describe_unknown_type(kind: str | None) -> str:
    """Return what to tell the sender of a file whose format is not accepted, or not known."""
    optional = {name: None for other, (name, _, _) in _EXTRAS.items() if _is_installed(other)}
    names = [*_ALWAYS, *optional]
    accepted = f"{', '.join(names[:-1])} and {names[-1]}"
    if kind in _EXTRAS:
        name, extra, _ = _EXTRAS[kind]
        return (
            f"The file is a {name} image, but this service accepts only {accepted}. Convert it to"
            f" JPEG, or ask the operator to install the extra `{extra}`."
        )
    return f"The file is not an image of an accepted type: {accepted}. Convert it to one of these."


def _is_installed(kind: str) -> bool:
    if kind == "HEIF":
        return kind in Image.OPEN
    return kind not in _EXTRAS or importlib.util.find_spec(_EXTRAS[kind][2]) is not None
