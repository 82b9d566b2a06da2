"""Reads XMP (ISO 16684-1) from the packet that Pillow finds, with defusedxml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from PIL import Image

from models.capture.values import (
    MAX_CAPTION,
    MAX_KEYWORDS,
    Capture,
    Moment,
    attempt,
    clean_keywords,
    clean_text,
    join_camera,
    make_position,
    parse_moment,
    positive,
    read_fields,
    to_float,
    to_int,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_PACKET = 1 << 20  # bytes; editors keep their history and depth maps in longer ones
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_EXIF_EX = "{http://cipa.jp/exif/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"
_AUX = "{http://ns.adobe.com/exif/1.0/aux/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# 52,31.2N or 52,31,12N
_PART = r"(?:,(\d{1,3}(?:\.\d{1,20})?))?"
_COORDINATE = re.compile(rf"(\d{{1,3}}){_PART}{_PART}([NSEW])")


class _Packet:
    """The properties of one packet, which are attributes or elements."""

    def __init__(self, root: Element) -> None:
        # Those further down describe the ingredients of the picture, and its history.
        rdf = root if root.tag == f"{_RDF}RDF" else root.find(f"{_RDF}RDF")
        self._descriptions = [] if rdf is None else rdf.findall(f"{_RDF}Description")

    def texts(self, name: str) -> list[str]:
        """Return the text of a property, or those of its items, the default language first."""
        for description in self._descriptions:
            if name in description.attrib:
                return [description.attrib[name]]
            element = description.find(name)
            if element is not None:
                return list(_texts_of(element))
        return []

    def text(self, *names: str) -> str | None:
        """Return the first text of the first property that has one."""
        return next((text for name in names for text in self.texts(name)[:1]), None)


def _texts_of(element: Element) -> Iterator[str]:
    items = [each for container in element for each in container.findall(f"{_RDF}li")]
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")  # stable: the others keep order
    for item in items[: 2 * MAX_KEYWORDS] or [element]:
        text = item.text or item.get(f"{_RDF}value") or item.findtext(f"{_RDF}value")
        if text and text.strip():
            yield text


def read_xmp(image: Image.Image, *, keep_gps: bool) -> Capture:
    """Return the fields of an image's XMP packet; `moment` is a Moment."""
    packet = image.info.get("xmp")
    if not isinstance(packet, bytes) or not packet or len(packet) > MAX_PACKET:
        return {}
    text = packet.strip(b"\0 \n\r\t")
    root = attempt(lambda: ElementTree.fromstring(text, forbid_dtd=True))
    if root is None:
        return {}
    readers = _READERS if keep_gps else {k: v for k, v in _READERS.items() if k != "gps"}
    return read_fields(_Packet(root), readers)


def _line(*names: str) -> Callable[[_Packet], str | None]:
    return lambda packet: clean_text(packet.text(*names))


def _number(name: str) -> Callable[[_Packet], float | None]:
    return lambda packet: positive(packet.text(name))


def _moment(packet: _Packet) -> Moment | None:
    names = (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated", f"{_XMP}CreateDate")
    moments = (attempt(partial(parse_moment, packet.text(name))) for name in names)
    return next(filter(None, moments), None)


def _gps(packet: _Packet) -> dict[str, float] | None:
    latitude = _degrees(packet.text(f"{_EXIF}GPSLatitude"), "NS")
    longitude = _degrees(packet.text(f"{_EXIF}GPSLongitude"), "EW")
    return make_position(latitude, longitude, attempt(lambda: _altitude(packet)))


def _degrees(text: str | None, signs: str) -> float:
    found = _COORDINATE.fullmatch((text or "").strip())
    if found is None or found[4] not in signs:
        raise ValueError("no coordinate")
    degrees: float = sum(
        float(part or 0) / 60.0**place for place, part in enumerate(found.groups()[:3])
    )
    return -degrees if found[4] == signs[1] else degrees


def _altitude(packet: _Packet) -> float | None:
    altitude = to_float(packet.text(f"{_EXIF}GPSAltitude"))
    is_below = packet.text(f"{_EXIF}GPSAltitudeRef") == "1"
    return -altitude if altitude is not None and is_below else altitude


def _camera(packet: _Packet) -> str | None:
    make, model = packet.text(f"{_TIFF}Make"), packet.text(f"{_TIFF}Model")
    return join_camera(clean_text(make), clean_text(model))


_READERS: dict[str, Callable[[_Packet], object]] = {
    "moment": _moment,
    "camera": _camera,
    "lens": _line(f"{_AUX}Lens", f"{_EXIF_EX}LensModel"),
    "focal_length": _number(f"{_EXIF}FocalLength"),
    "exposure": _number(f"{_EXIF}ExposureTime"),
    "aperture": _number(f"{_EXIF}FNumber"),
    "iso": lambda packet: to_int(
        packet.text(f"{_EXIF_EX}PhotographicSensitivity", f"{_EXIF}ISOSpeedRatings"), 1, 10**9
    ),
    "gps": _gps,
    "software": _line(f"{_XMP}CreatorTool"),
    "creator": lambda packet: clean_text(", ".join(packet.texts(f"{_DC}creator"))),
    "copyright": _line(f"{_DC}rights"),
    "caption": lambda packet: clean_text(packet.text(f"{_DC}description"), MAX_CAPTION),
    "keywords": lambda packet: clean_keywords(packet.texts(f"{_DC}subject")),
    "rating": lambda packet: to_int(packet.text(f"{_XMP}Rating"), -1, 5),
}
