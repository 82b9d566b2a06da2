"""Joins EXIF, IPTC and XMP into one object, the capture metadata."""

from __future__ import annotations

from PIL import Image

from models.capture.exif import read_exif
from models.capture.iptc import read_iptc
from models.capture.limits import shorten
from models.capture.values import Capture
from models.capture.xmp import read_xmp

# Raise it when a release reads more: then the worker reads the files of all masters again.
READER = 1
_E, _I, _X = "exif", "iptc", "xmp"
# Where each field is read, the best source first.
_SOURCES = {
    "moment": (_E, _X, _I),
    "digitized": (_E,),
    "camera": (_E, _X),
    "lens": (_E, _X),
    "focal_length": (_E, _X),
    "exposure": (_E, _X),
    "aperture": (_E, _X),
    "iso": (_E, _X),
    "gps": (_E, _X),
    "software": (_E, _I, _X),
    "creator": (_E, _I, _X),
    "copyright": (_E, _I, _X),
    "caption": (_X, _I, _E),
    "keywords": (_X, _I, _E),
    "rating": (_X, _E),
}


def read_capture(image: Image.Image, *, keep_gps: bool = True) -> Capture:
    """Return the capture metadata of an opened image; ``{}`` if none can be read.

    The metadata of a PNG may follow its pixels, so it must be loaded. ``keep_gps`` False leaves the
    position out. Raises nothing but MemoryError.
    """
    found = {
        _E: read_exif(image, keep_gps=keep_gps),
        _I: read_iptc(image),
        _X: read_xmp(image, keep_gps=keep_gps),
    }
    if not any(found.values()):
        return {}
    capture: Capture = {}
    for name, sources in _SOURCES.items():
        value = next((found[source][name] for source in sources if name in found[source]), None)
        if value is not None:
            capture[name] = value
    digitized = capture.pop("digitized", None)
    moment = capture.pop("moment", digitized)
    if isinstance(moment, tuple):
        time, offset = moment
        capture = {"time": time} | ({} if offset is None else {"offset": offset}) | capture
    return shorten(capture)
