"""Reads IPTC (IIM 4.2) with Pillow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import cast

from PIL import Image, ImageFile, IptcImagePlugin

from models.capture.values import (
    MAX_CAPTION,
    MAX_KEYWORDS,
    Capture,
    Moment,
    attempt,
    clean_keywords,
    clean_text,
    decode_text,
    parse_moment,
    read_fields,
)

_Block = Mapping[tuple[int, int], bytes | list[bytes]]
_CHARACTER_SET, _UTF8 = (1, 90), b"\x1b%G"
_DATE, _TIME = (2, 55), (2, 60)
_KEYWORDS = (2, 25)
_CLOCK = re.compile(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?")


def read_iptc(image: Image.Image) -> Capture:
    """Return the fields of an image's IPTC record; `moment` is a Moment."""
    if "photoshop" not in image.info and not hasattr(image, "tag_v2"):
        return {}
    block = attempt(lambda: IptcImagePlugin.getiptcinfo(cast("ImageFile.ImageFile", image)))
    return read_fields(block, _READERS) if block else {}


def _values(block: _Block, field: tuple[int, int]) -> list[str]:
    found = block.get(field, [])
    values = (found if isinstance(found, list) else [found])[: 2 * MAX_KEYWORDS]
    is_utf8 = block.get(_CHARACTER_SET) == _UTF8
    return [
        value.decode("utf-8", "ignore") if is_utf8 else decode_text(value)
        for value in values
        if value
    ]


def _text(field: tuple[int, int], limit: int = 255) -> Callable[[_Block], str | None]:
    return lambda block: clean_text(next(iter(_values(block, field)), None), limit)


def _moment(block: _Block) -> Moment | None:
    """Return date and time; the digits of an unknown month or day are 0."""
    date = next(iter(_values(block, _DATE)), "")
    clock = _CLOCK.fullmatch(next(iter(_values(block, _TIME)), ""))
    day = f"{date[:4]}-{date[4:6].replace('00', '01')}-{date[6:8].replace('00', '01')}"
    if clock is None:
        return parse_moment(day)
    hour, minute, second, offset = clock.groups()
    return parse_moment(f"{day}T{hour}:{minute}:{second}{offset or ''}")


_READERS: dict[str, Callable[[_Block], object]] = {
    "moment": _moment,
    "software": _text((2, 65)),
    "creator": _text((2, 80)),
    "copyright": _text((2, 116)),
    "caption": _text((2, 120), MAX_CAPTION),
    "keywords": lambda block: clean_keywords(_values(block, _KEYWORDS)),
}
