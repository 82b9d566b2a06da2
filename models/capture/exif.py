"""Reads EXIF with Pillow."""

from __future__ import annotations

from collections.abc import Callable

from PIL import ExifTags, Image

from models.capture.values import (
    MAX_CAPTION,
    Capture,
    Moment,
    attempt,
    clean_keywords,
    clean_text,
    decode_text,
    join_camera,
    make_position,
    parse_moment,
    positive,
    read_fields,
    to_float,
    to_int,
)

MAX_BLOCK = 256 * 1024  # bytes; what a directory refers to behind them is left out
_Base, _Gps = ExifTags.Base, ExifTags.GPS
_UNKNOWN_ISO = 65535  # the field is too small; the real number is in another
_USER_COMMENT_ENCODINGS = {b"ASCII": "utf-8", b"JIS": "iso2022_jp", b"": "utf-8"}


def open_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF block of an opened image, of which at most MAX_BLOCK bytes are read.

    Pillow turns all values of a directory into objects, which takes seconds for megabytes. Raises
    whatever Pillow does.
    """
    block = image.info.get("exif")
    if isinstance(block, bytes) and len(block) > MAX_BLOCK:
        exif = Image.Exif()
        exif.load(block[:MAX_BLOCK])
        return exif
    return image.getexif()


class _Block:
    """The directories of one EXIF block."""

    def __init__(self, exif: Image.Exif, *, keep_gps: bool) -> None:
        camera = attempt(lambda: exif.get_ifd(ExifTags.IFD.Exif)) or {}
        place = attempt(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo)) if keep_gps else None
        self.main, self.camera, self.gps = exif.get, camera.get, (place or {}).get
        self.is_little_endian = exif.endian == "<"


def read_exif(image: Image.Image, *, keep_gps: bool) -> Capture:
    """Return the fields of an image's EXIF block.

    `moment` and `digitized` are Moments, from which `time` and `offset` are made.
    """
    exif = attempt(lambda: open_exif(image))
    return read_fields(_Block(exif, keep_gps=keep_gps), _READERS) if exif else {}


def _text(value: object, limit: int = 255) -> str | None:
    """Return a text, which Pillow decodes as Latin-1 whatever its encoding is."""
    if isinstance(value, str):
        value = value.encode("latin-1", "ignore")
    return clean_text(decode_text(value), limit) if isinstance(value, bytes) else None


def _copyright(block: _Block) -> str | None:
    """Return the photographer's copyright, otherwise that of the editor behind the first NUL."""
    value = block.main(_Base.Copyright)
    parts = value.split("\0") if isinstance(value, str) else [value]
    return next(filter(None, map(_text, parts)), None)


def _lens(block: _Block) -> str | None:
    lens = _text(block.camera(_Base.LensModel))
    return lens if lens and any(map(str.isalnum, lens)) else None  # "----" is none


def _iso(block: _Block) -> int | None:
    iso = to_int(block.camera(_Base.ISOSpeedRatings), 1, 10**9)
    if iso is None or iso == _UNKNOWN_ISO:
        better = block.camera(_Base.RecommendedExposureIndex)
        return to_int(better, 1, 10**9) if better is not None else iso
    return iso


def _moment(time: int, fraction: int, offset: int) -> Callable[[_Block], Moment | None]:
    def read(block: _Block) -> Moment | None:
        return parse_moment(
            block.camera(time), fraction=block.camera(fraction), offset=block.camera(offset)
        )

    return read


def _gps(block: _Block) -> dict[str, float] | None:
    latitude = _degrees(block.gps(_Gps.GPSLatitude), block.gps(_Gps.GPSLatitudeRef), "NS")
    longitude = _degrees(block.gps(_Gps.GPSLongitude), block.gps(_Gps.GPSLongitudeRef), "EW")
    return make_position(latitude, longitude, attempt(lambda: _altitude(block)))


def _degrees(value: object, reference: object, signs: str) -> float:
    """Return degrees, minutes and seconds as degrees. Raises ValueError if the side is unknown."""
    side = (_text(reference) or "").upper()[:1]
    if not side or side not in signs:
        raise ValueError("north or south, east or west")
    parts = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(parts) <= 3:
        raise ValueError("degrees, minutes, seconds")
    degrees: float = sum(float(part) / 60.0**place for place, part in enumerate(parts))
    return -degrees if side == signs[1] else degrees


def _altitude(block: _Block) -> float | None:
    altitude = to_float(block.gps(_Gps.GPSAltitude))
    below_sea_level = block.gps(_Gps.GPSAltitudeRef) in (1, b"\1", 3, b"\3")
    return -altitude if altitude is not None and below_sea_level else altitude


def _caption(block: _Block) -> str | None:
    return (
        _text(block.main(_Base.ImageDescription), MAX_CAPTION)
        or clean_text(_wide_text(block.main(_Base.XPComment)), MAX_CAPTION)
        or clean_text(_wide_text(block.main(_Base.XPTitle)), MAX_CAPTION)
        or clean_text(_user_comment(block), MAX_CAPTION)
    )


def _keywords(block: _Block) -> list[str] | None:
    text = _wide_text(block.main(_Base.XPKeywords))
    return clean_keywords(text.split(";")) if text else None


def _wide_text(value: object) -> str | None:
    """Decode one of Windows' own fields, which are in UTF-16."""
    if isinstance(value, tuple):
        value = bytes(value)
    return value.decode("utf-16-le", "ignore") if isinstance(value, bytes) else None


def _user_comment(block: _Block) -> str | None:
    """Decode a comment by the eight bytes in front of it; UTF-16 in either byte order."""
    value = block.camera(_Base.UserComment)
    if not isinstance(value, bytes):
        return None
    encoding, text = value[:8].rstrip(b"\0 "), value[8:]
    if encoding != b"UNICODE":
        known = _USER_COMMENT_ENCODINGS.get(encoding)
        return decode_text(text) if known in {"utf-8", None} else text.decode(known, "ignore")
    # The zero bytes of Latin letters tell the order better than the header, which is often wrong.
    big, little = text[::2].count(0), text[1::2].count(0)
    is_little = block.is_little_endian if big == little else little > big
    return text.decode("utf-16-le" if is_little else "utf-16-be", "ignore")


_READERS: dict[str, Callable[[_Block], object]] = {
    "moment": _moment(_Base.DateTimeOriginal, _Base.SubsecTimeOriginal, _Base.OffsetTimeOriginal),
    "digitized": _moment(
        _Base.DateTimeDigitized, _Base.SubsecTimeDigitized, _Base.OffsetTimeDigitized
    ),
    "camera": lambda block: join_camera(
        _text(block.main(_Base.Make)), _text(block.main(_Base.Model))
    ),
    "lens": _lens,
    "focal_length": lambda block: positive(block.camera(_Base.FocalLength)),
    "exposure": lambda block: positive(block.camera(_Base.ExposureTime)),
    "aperture": lambda block: positive(block.camera(_Base.FNumber)),
    "iso": _iso,
    "gps": _gps,
    "software": lambda block: _text(block.main(_Base.Software)),
    "creator": lambda block: _text(block.main(_Base.Artist)),
    "copyright": _copyright,
    "caption": _caption,
    "keywords": _keywords,
    "rating": lambda block: to_int(block.main(_Base.Rating), -1, 5),
}
