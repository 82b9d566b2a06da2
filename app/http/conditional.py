"""Conditional and range requests: the headers If-None-Match and Range (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re

from app.http.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether the client has the representation already (RFC 9110, 13.1.2).

    The comparison is weak, with each entity tag of the list; ``*`` matches any.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return ``(start, stop)`` in bytes, half open, of a representation of ``size`` bytes.

    None means the whole: there is no header, or one that RFC 9110 lets a server ignore (several
    ranges, other units). Raises RangeNotSatisfiable for a range that begins behind the end.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first == "":  # a suffix: the last so many bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
        if last and int(last) < int(first):
            return None
    if start >= size or start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop
