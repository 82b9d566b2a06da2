"""Turns single values of EXIF, IPTC and XMP into those that are kept, or into None."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

# The members are in docs/api.md. `check_capture` in models/capture/limits.py has their types.
Capture = dict[str, object]
# The time in ms since 1970, and the offset in minutes east of UTC if it is known.
Moment = tuple[int, int | None]
_Block = TypeVar("_Block")
_T = TypeVar("_T")

MAX_LINE = 255  # characters of a name, a title or the like
MAX_CAPTION = 2000  # characters
MAX_KEYWORD = 100  # characters
MAX_KEYWORDS = 100
MAX_OFFSET = 14 * 60  # minutes; the Line Islands are that far east
MAX_ALTITUDE = 100_000.0  # metres
EARLIEST = int(datetime(1800, 1, 1, tzinfo=UTC).timestamp() * 1000)
LATEST = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)
_DIGITS = 6  # of a number; cameras store 1.8 as 1.79999995
# 2024:05:01 10:00:00 (EXIF), or 2024-05-01T10:00:00.25+02:00 and shorter forms (XMP).
_TIME = re.compile(
    r"(\d{4})(?:[:/-](\d{1,2})(?:[:/-](\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2}))?"
    r"(?:[.,](\d{1,9}))?)?)?)?\s*(Z|[+-]\d{2}:?\d{2})?"
)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")


def attempt(read: Callable[[], _T]) -> _T | None:
    """Return what ``read`` does, or None if it fails: hostile metadata fails in many ways."""
    try:
        return read()
    except Exception:
        return None


def read_fields(block: _Block, readers: Mapping[str, Callable[[_Block], object]]) -> Capture:
    """Read each field from a block of metadata; one that is missing or broken is left out."""
    fields = {name: attempt(partial(read, block)) for name, read in readers.items()}
    return {name: value for name, value in fields.items() if value is not None}


def clean_text(text: object, limit: int = MAX_LINE) -> str | None:
    """Return a text in NFC, on one line and at most ``limit`` characters long, or None."""
    if not isinstance(text, str):
        return None
    text = unicodedata.normalize("NFC", text[: 2 * limit].partition("\0")[0])
    # Control characters, halves of surrogate pairs, and the byte order mark.
    unwanted = (unicodedata.category(each) in {"Cc", "Cs"} or each == "\ufeff" for each in text)
    text = "".join(" " if drop else each for each, drop in zip(text, unwanted, strict=True))
    return text.strip()[:limit].strip() or None


def clean_keywords(words: Iterable[object]) -> list[str] | None:
    """Return the keywords in order, each once."""
    cleaned = (clean_text(word, MAX_KEYWORD) for word in words)
    unique = [word for word in dict.fromkeys(cleaned) if word is not None]
    return unique[:MAX_KEYWORDS] or None


def decode_text(value: bytes) -> str:
    """Decode bytes that should be ASCII, and are UTF-8 or Latin-1 in many files."""
    value = value.partition(b"\0")[0]
    for encoding in ("utf-8", "cp1252"):
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")


def positive(value: object) -> float | None:
    """Return a number or fraction as a float of six digits, if it is above 0 and finite."""
    number = to_float(value)
    if number is None or not 0 < number < 1e6:
        return None
    return float(f"{number:.{_DIGITS}g}") or None


def to_float(value: object) -> float | None:
    """Return a number, or a text like "28/10", as a finite float."""
    if isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, str):
        numerator, _, denominator = value[:64].partition("/")
        number = float(numerator) / float(denominator or 1)
    else:
        number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None


def to_int(value: object, least: int, most: int) -> int | None:
    """Return a whole number between two bounds."""
    number = to_float(value)
    if number is None or not least <= number <= most or number != int(number):
        return None
    return int(number)


def join_camera(make: str | None, model: str | None) -> str | None:
    """Return make and model, without the make if the model begins with its first word."""
    if make is None or model is None:
        return make or model
    first = re.escape(make.split()[0])
    repeated = re.match(rf"{first}(?!\w)", model, re.IGNORECASE)
    return clean_text(model if repeated else f"{make} {model}")


def parse_moment(text: object, *, fraction: object = None, offset: object = None) -> Moment | None:
    """Parse a time of EXIF or XMP, with the offset in it or in ``offset``.

    ``fraction`` has the digits after the decimal point. A shorter form, such as a month, stands for
    its first moment. None if the time is not between the years 1800 and 2200.
    """
    found = _TIME.fullmatch(_trim(text))
    if found is None:
        return None
    *parts, digits, own_offset = found.groups()
    year, month, day, hour, minute, second = (int(part or 0) for part in parts)
    # A leap second counts as the second before it.
    local = datetime(year, month or 1, day or 1, hour, minute, min(second, 59), tzinfo=UTC)
    digits = digits or (_trim(fraction) if _trim(fraction).isdecimal() else "")
    east = parse_offset(own_offset or offset)
    instant = local - timedelta(minutes=east or 0)
    instant += timedelta(milliseconds=int(digits[:3].ljust(3, "0")))
    time = round(instant.timestamp() * 1000)
    return (time, east) if EARLIEST <= time < LATEST else None


def parse_offset(text: object) -> int | None:
    """Parse "+02:00", "+0200" or "Z" into minutes east of UTC."""
    found = _OFFSET.fullmatch(_trim(text))
    if found is None:
        return 0 if _trim(text) == "Z" else None
    minutes = int(found[2]) * 60 + int(found[3])
    if int(found[3]) > 59 or minutes > MAX_OFFSET:
        return None
    return -minutes if found[1] == "-" else minutes


def _trim(text: object) -> str:
    return text.partition("\0")[0].strip()[:64] if isinstance(text, str) else ""


def make_position(
    latitude: float, longitude: float, altitude: float | None
) -> dict[str, float] | None:
    """Return a position in degrees and metres, or None if it is not on the globe."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # also rejects NaN
        return None
    # Seven digits are one centimetre.
    position = {"latitude": round(latitude, 7), "longitude": round(longitude, 7)}
    if altitude is not None and abs(altitude) <= MAX_ALTITUDE:
        position["altitude"] = round(altitude, 2)
    return position
