"""The types and bounds of capture metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from models.capture.values import (
    EARLIEST,
    LATEST,
    MAX_ALTITUDE,
    MAX_CAPTION,
    MAX_KEYWORD,
    MAX_KEYWORDS,
    MAX_LINE,
    MAX_OFFSET,
    Capture,
    clean_text,
)

MAX_BYTES = 8192  # of the whole as JSON in UTF-8


def shorten(capture: Capture) -> Capture:
    """Drop the last keywords, and then the end of the caption, until the whole is short enough."""
    for name in ("keywords", "caption"):
        while _size(capture) > MAX_BYTES and (value := capture.get(name)):
            assert isinstance(value, list | str)  # noqa: S101 - for the type checker
            half: object = value[: len(value) // 2]
            capture = capture | {name: half.strip() if isinstance(half, str) else half}
            if not capture[name]:
                del capture[name]
    return capture


def check_capture(value: object) -> Capture:
    """Return an object of unknown origin if `read_capture` could have made it.

    Raises ValueError.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("not an object")
    valid = all(name in _CHECKS and _CHECKS[name](each) for name, each in value.items())
    if not valid or ("offset" in value and "time" not in value) or _size(value) > MAX_BYTES:
        raise ValueError("not capture metadata")
    return value


def _size(capture: Capture) -> int:
    # A surrogate cannot be encoded, which is a ValueError.
    return len(json.dumps(capture, ensure_ascii=False, separators=(",", ":")).encode())


def _is_int(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_float(least: float, most: float) -> Callable[[object], bool]:
    return lambda value: type(value) is float and math.isfinite(value) and least <= value <= most


def _is_text(limit: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and len(value) <= limit and clean_text(value, limit) == value
    )


def _is_position(value: object) -> bool:
    bounds = {"latitude": 90.0, "longitude": 180.0, "altitude": MAX_ALTITUDE}
    return (
        isinstance(value, dict)
        and {"latitude", "longitude"} <= value.keys() <= bounds.keys()
        and all(_is_float(-bounds[key], bounds[key])(each) for key, each in value.items())
    )


def _are_keywords(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_KEYWORDS
        and all(map(_is_text(MAX_KEYWORD), value))
        and len(set(value)) == len(value)
    )


_CHECKS: dict[str, Callable[[object], bool]] = {
    "time": _is_int(EARLIEST, LATEST - 1),
    "offset": _is_int(-MAX_OFFSET, MAX_OFFSET),
    "camera": _is_text(MAX_LINE),
    "lens": _is_text(MAX_LINE),
    "focal_length": _is_float(0, 1e6),
    "exposure": _is_float(0, 1e6),
    "aperture": _is_float(0, 1e6),
    "iso": _is_int(1, 10**9),
    "gps": _is_position,
    "software": _is_text(MAX_LINE),
    "creator": _is_text(MAX_LINE),
    "copyright": _is_text(MAX_LINE),
    "caption": _is_text(MAX_CAPTION),
    "keywords": _are_keywords,
    "rating": _is_int(-1, 5),
}
