"""Opens images of unknown origin, before any of their pixels is decoded.

Every upload, sample and training image passes through ``open_image``; nothing else opens files with
Pillow.
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

from models.formats import avif, camera_raw, jpeg, jpeg_end, png
from models.formats.faults import Damaged, NotSupported, TooManyPieces
from models.formats.openers import (
    Opener,
    describe_unknown_type,
    find_opener,
    find_pillows_opener,
)
from models.formats.signatures import HEAD, recognise_format
from models.formats.sizes import find_claimed_size

_T = TypeVar("_T")
# _check_size is stricter than Pillow's check: it rejects instead of warning.
Image.MAX_IMAGE_PIXELS = None
with suppress(ImportError):  # the extra `heif` adds the decoder for the images of iPhones
    importlib.import_module("pillow_heif").register_heif_opener()

MAX_PIXELS = 64_000_000  # of the still picture, or of the first frame
MAX_ASPECT_RATIO = 100
_COPIES = 3  # of a file that is given an end
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
    "TIFF": ("image/tiff", "tif"),
    "JXL": ("image/jxl", "jxl"),
    **camera_raw.FORMATS,
}

# Pillow's format name -> what lets a file be opened whose metadata is broken.
_HIDE_METADATA = {
    "JPEG": jpeg.hide_metadata,
    "AVIF": avif.hide_metadata,
    **dict.fromkeys(camera_raw.FORMATS, jpeg.hide_metadata),
}

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
class Acceptance:
    """What is accepted of files that are otherwise intact.

    ``max_pixels`` None leaves it to the memory. ``truncated`` accepts a JPEG without its last 1 %.
    """

    max_pixels: int | None = MAX_PIXELS
    truncated: bool = False


ACCEPTANCE = Acceptance()
ANYTHING = Acceptance(max_pixels=None, truncated=True)  # of what was accepted before


@dataclass(frozen=True)
class OpenedImage:
    """An image whose pixels can be loaded.

    ``structure`` is that of a JPEG, None for other formats. ``is_truncated`` tells whether pixels
    or their details are missing at its end.
    """

    image: Image.Image
    structure: jpeg.Structure | None = None
    is_truncated: bool = False

    @property
    def coefficients(self) -> int:
        """Bytes that libjpeg keeps, however small it decodes a progressive JPEG, or several scans.

        They are coefficients of 16 bits for the whole image.
        """
        structure, image = self.structure, self.image
        if structure is None or not (structure.is_progressive or structure.has_several_scans):
            return 0
        return math.prod(image.size) * 2 * len(image.getbands())


def open_image(
    file: BinaryIO, accept: Acceptance, admit: Callable[[int], None] | None = None
) -> OpenedImage:
    """Open a file from its start, and check its type, its structure and its size.

    A JPEG that lacks its end is given one. Finding out how much is missing takes memory, for which
    ``admit`` is called with an estimate in bytes; it may raise. Raises ImageRejected.
    """
    opened = guard(lambda: _open(file, accept))
    structure = opened.structure
    if structure is None or structure.has_end or opened.image.format != "JPEG":
        return opened
    file.seek(0)
    content = jpeg.hide_metadata(file.read())
    if admit is not None:
        compared = jpeg_end.estimate_memory(*opened.image.size, structure)
        admit(opened.coefficients + compared + _COPIES * len(content))
    completed = guard(lambda: jpeg_end.complete_jpeg(content, structure))
    if completed.truncated and not accept.truncated:
        raise ImageRejected(
            "invalid-image",
            "The image lacks the last bytes of its file. Send the complete file, or save it again"
            " in an image editor. An operator may accept such uploads"
            " (LOOKALIKE_ACCEPT_TRUNCATED).",
        )
    file = io.BytesIO(completed.content)
    image = guard(lambda: _open_with(find_pillows_opener("JPEG"), "JPEG", file))
    return OpenedImage(image, structure, completed.truncated)


def _open(file: BinaryIO, accept: Acceptance) -> OpenedImage:
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise ImageRejected(
            "empty-file", "The file is empty. Send the bytes of the image as the file's content."
        )
    kind = recognise_format(head)
    if kind == "TIFF":
        kind = camera_raw.recognise_raw(file) or kind
    opener = find_opener(kind)
    if kind is None or opener is None:
        raise ImageRejected("unsupported-image-type", describe_unknown_type(kind))
    file.seek(0)
    structure = None
    if kind in camera_raw.FORMATS:
        file = camera_raw.extract_preview(file)
        structure = camera_raw.read_structure(file)
    elif kind == "JPEG":
        structure = jpeg.read_structure(file.read())
    elif kind == "PNG":
        file = png.select_chunks(file)
    try:
        image = _open_with(opener, kind, file)
    except Exception:
        file.seek(0)
        claimed = find_claimed_size(kind, file.read(_LONGEST_HEADER))
        if claimed is not None:  # the decoder may have refused it for its size
            _check_size(*claimed, accept.max_pixels)
        raise
    _check_size(*image.size, accept.max_pixels)
    image.format = kind  # that of the file, of which it may be the preview
    return OpenedImage(image, structure)


def _open_with(opener: Opener, kind: str, file: BinaryIO) -> Image.Image:
    file.seek(0)
    try:
        return opener(file)
    except Exception:
        if kind not in _HIDE_METADATA:
            raise
    file.seek(0)
    return opener(io.BytesIO(_HIDE_METADATA[kind](file.read())))


def guard(step: Callable[[], _T]) -> _T:
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
    """Describe why an image cannot be decoded, without Pillow's words: they may contain a repr."""
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


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ImageRejected(
            "too-many-pixels",
            f"The image has {width} x {height} pixels, which is over the limit of"
            f" {max_pixels / 1_000_000:g} megapixels. Send a smaller version.",
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageRejected(
            "bad-aspect-ratio",
            f"The image has {width} x {height} pixels, so one side is more than {MAX_ASPECT_RATIO}"
            " times as long as the other. Crop it.",
        )
