"""Metadata of pictures, as cameras and programs write it, and files that contain it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from tests.support.images import encoded

_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
}
_DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMESPACES.items())
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PICTURE = Image.linear_gradient("L").convert("RGB").resize((96, 64))

# What a phone writes.
PHONE_MAIN = {"Make": "Apple", "Model": "iPhone 12", "Software": "17.4.1"}
PHONE_CAMERA: dict[str, Any] = {
    "DateTimeOriginal": "2024:05:01 10:00:00",
    "SubsecTimeOriginal": "250",
    "OffsetTimeOriginal": "+02:00",
    "LensModel": "iPhone 12 back camera 4.2mm f/1.6",
    "FocalLength": IFDRational(42, 10),
    "ExposureTime": IFDRational(1, 121),
    "FNumber": IFDRational(8, 5),
    "ISOSpeedRatings": 200,
}
PHONE_GPS: dict[str, Any] = {
    "GPSLatitudeRef": "N",
    "GPSLatitude": (52.0, 31.0, 12.0),
    "GPSLongitudeRef": "E",
    "GPSLongitude": (13.0, 24.0, 36.0),
    "GPSAltitudeRef": b"\0",
    "GPSAltitude": IFDRational(345, 10),
}
PHONE = {
    "time": 1714550400250,
    "offset": 120,
    "camera": "Apple iPhone 12",
    "lens": "iPhone 12 back camera 4.2mm f/1.6",
    "focal_length": 4.2,
    "exposure": 0.00826446,
    "aperture": 1.6,
    "iso": 200,
    "gps": {"latitude": 52.52, "longitude": 13.41, "altitude": 34.5},
    "software": "17.4.1",
}


def exif_block(
    main: Mapping[str, Any] | None = None,
    camera: Mapping[str, Any] | None = None,
    gps: Mapping[str, Any] | None = None,
) -> bytes:
    """Return an EXIF block of the tags named; each directory is optional."""
    exif = Image.Exif()
    for name, value in (main or {}).items():
        exif[ExifTags.Base[name]] = value
    for ifd, tags, values in (
        (ExifTags.IFD.Exif, ExifTags.Base, camera),
        (ExifTags.IFD.GPSInfo, ExifTags.GPS, gps),
    ):
        if values is not None:
            exif[ifd] = {tags[name].value: value for name, value in values.items()}
    return exif.tobytes()


PHONE_EXIF = exif_block(PHONE_MAIN, PHONE_CAMERA, PHONE_GPS)


def raw_exif(entries: Mapping[int, tuple[int, bytes]], pointer: int | None = None) -> bytes:
    """Return an EXIF block of undecoded entries: tag -> (type, bytes).

    With ``pointer``, they are in the directory to which that tag of the first one points.
    """
    directory = b"II*\0\x08\0\0\0"
    if pointer is not None:
        directory += struct.pack("<HHHII", 1, pointer, 4, 1, 26) + bytes(4)
    position = len(directory) + 2 + 12 * len(entries) + 4
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
    rows, behind = b"", b""
    for tag, (kind, value) in sorted(entries.items()):
        count = len(value) // sizes[kind]
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", position + len(behind))
            behind += value
        rows += struct.pack("<HHI", tag, kind, count) + place
    return b"Exif\0\0" + directory + struct.pack("<H", len(entries)) + rows + bytes(4) + behind


def xmp_packet(inside: str = "", attributes: str = "") -> bytes:
    """Return a packet of one description, with these elements and attributes."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" {_DECLARED} {attributes}>{inside}</rdf:Description>'
        '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    ).encode()


def xmp_list(name: str, kind: str, *items: str) -> str:
    """Return a property with several items; ``kind`` is Bag, Seq or Alt."""
    rows = "".join(f"<rdf:li>{escape(item)}</rdf:li>" for item in items)
    return f"<{name}><rdf:{kind}>{rows}</rdf:{kind}></{name}>"


def iptc_record(*fields: tuple[int, int, bytes]) -> bytes:
    """Return an IIM record of (record, data set, value)."""
    return b"".join(
        bytes([0x1C, record, number]) + len(value).to_bytes(2) + value
        for record, number, value in fields
    )


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


def photoshop_segment(iptc: bytes) -> bytes:
    """Return the JPEG segment APP13 with an IPTC record."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    return segment(0xED, b"Photoshop 3.0\0" + resource)


def jpeg_with(*segments: bytes, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    options = {"exif": exif} if exif else {}
    content = encoded(PICTURE, "JPEG", **options)
    if xmp:
        segments += (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),)
    return content[:2] + b"".join(segments) + content[2:]


def picture_with(format: str, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    """Return a file of any format that has EXIF and XMP."""
    if format == "JPEG":
        return jpeg_with(exif=exif, xmp=xmp)
    if format == "PNG":
        return _png_with(exif, xmp)
    options = {name: block for name, block in (("exif", exif), ("xmp", xmp)) if block}
    return encoded(PICTURE, format, **options)


def _png_with(exif: bytes, xmp: bytes) -> bytes:
    info = PngInfo()
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "surrogateescape"))
    return encoded(PICTURE, "PNG", pnginfo=info, **({"exif": exif} if exif else {}))


def tiff_with(exif: bytes = b"", xmp: bytes = b"", iptc: bytes = b"") -> bytes:
    """Return a TIFF with EXIF in its directories, or with the blocks of the other two."""
    if exif:
        return encoded(PICTURE, "TIFF", exif=exif)
    directory = ImageFileDirectory_v2()
    for tag, kind, block in ((700, 1, xmp), (33723, 7, iptc)):
        if block:
            directory[tag] = block
            directory.tagtype[tag] = kind
    return encoded(PICTURE, "TIFF", tiffinfo=directory)
