"""Opens the raw files of cameras, with the extra ``raw``: what is decoded is their preview.

Cameras put a JPEG into each of their raw files, usually of the full size. It has the colours that
the photographer saw, and takes a hundredth of the time that developing the raw pixels would.
"""

from __future__ import annotations

import importlib
import io
from typing import Any, BinaryIO

from PIL import ExifTags, Image, TiffImagePlugin

from models.formats import jpeg
from models.formats.faults import Damaged, NotSupported

# Name -> (media type, file extension)
FORMATS = {
    "ARW": ("image/x-sony-arw", "arw"),
    "CR2": ("image/x-canon-cr2", "cr2"),
    "CR3": ("image/x-canon-cr3", "cr3"),
    "DNG": ("image/x-adobe-dng", "dng"),
    "NEF": ("image/x-nikon-nef", "nef"),
    "ORF": ("image/x-olympus-orf", "orf"),
    "RAF": ("image/x-fuji-raf", "raf"),
    "RW2": ("image/x-panasonic-rw2", "rw2"),
}
_MAKER, _SUB_DIRECTORIES, _SUBFILE_TYPE, _DNG_VERSION = 271, 330, 254, 50706  # tags
_MAKERS = {"NIKON": "NEF", "SONY": "ARW"}
_SMALLER_IMAGE = 1  # a subfile type: there is a larger one in the file
_EXIF_SEGMENT = b"\xff\xe1"  # a JPEG marker
_QUALITY = 95  # of a preview that is no JPEG in the file
# LibRaw's number for how the image has to be turned -> EXIF orientation
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


def recognise_raw(file: BinaryIO) -> str | None:
    """Return the format of a camera raw file that begins as a TIFF does; None for a TIFF."""
    file.seek(0)
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        maker = str(directory.get(_MAKER, "")).split(" ")[0].strip("\0").upper()
        is_smaller = directory.get(_SUBFILE_TYPE) == _SMALLER_IMAGE
    except Exception:  # a hostile directory fails in many ways; the TIFF decoder reports it
        return None
    if _DNG_VERSION in directory:
        return "DNG"
    return _MAKERS.get(maker) if is_smaller and _SUB_DIRECTORIES in directory else None


def extract_preview(file: BinaryIO) -> BinaryIO:
    """Return the largest preview of a camera raw file, as a JPEG that says how it is turned.

    Raises NotSupported if there is none, Damaged if the file ends before it does, and what LibRaw
    raises.
    """
    rawpy: Any = importlib.import_module("rawpy")
    content = file.read()
    with rawpy.imread(io.BytesIO(content)) as raw:
        orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
        try:
            preview = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError) as error:
            raise NotSupported(
                "it is a camera raw file without a preview that can be shown"
            ) from error
    is_jpeg = preview.format == rawpy.ThumbFormat.JPEG
    own = _own_bytes(preview.data) if is_jpeg else preview.data.tobytes()
    if own not in content:
        # LibRaw does not fill the end of its memory, where earlier files may have been.
        raise Damaged("its preview ends before its last pixel")
    if is_jpeg:
        return io.BytesIO(preview.data)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    converted = io.BytesIO()
    Image.fromarray(preview.data).save(converted, "JPEG", quality=_QUALITY, exif=exif)
    return converted


def _own_bytes(preview: bytes) -> bytes:
    """Return what a preview has behind the EXIF data, which LibRaw may have put there."""
    start = 2
    if preview[2:4] == _EXIF_SEGMENT:
        start = 4 + int.from_bytes(preview[4:6], "big")
    return preview[start:]


def read_structure(preview: BinaryIO) -> jpeg.Structure:
    """Read the structure of a preview. Raises Damaged if its end is missing, and as for a JPEG."""
    preview.seek(0)
    structure = jpeg.read_structure(preview.read())
    if not structure.has_end:
        raise Damaged("its preview ends before its last pixel")
    return structure
