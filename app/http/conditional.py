"""Conditional and range requests: If-Match, If-None-Match and Range (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.errors import InvalidInput
from app.http.errors import RangeNotSatisfiable

# One element of a list of entity tags, which may be empty, up to the next comma or the end.
_LISTED_TAG = re.compile(
    r'[\t ]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[\t ]*)?(?:,|\Z)',
)
_REVISION = re.compile(r"[1-9][0-9]{0,17}")
_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Tell whether the client has the representation already (RFC 9110, 13.1.2).

    The comparison is weak, with each entity tag of the list; ``*`` matches any.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or "*" in tags


def revision_etag(revision: int) -> str:
    """Return the strong entity tag of a master's metadata at that revision."""
    return f'"{revision}"'


def parse_if_match(lines: Sequence[str] | None) -> frozenset[int] | None:
    """Return the revisions whose entity tags the lines of If-Match list (RFC 9110, 13.1.1).

    None means that any revision will do: there is no such header, or it is ``*``. The comparison
    is strong, so weak entity tags and those that are no revision match nothing. Raises
    InvalidInput.
    """
    header = ",".join(lines or ["*"])
    if header.strip("\t ") == "*":
        return None
    tags = _parse_entity_tags(header)
    strong = [tag for weak, tag in tags if not weak]
    return frozenset(int(tag) for tag in strong if _REVISION.fullmatch(tag))


def _parse_entity_tags(header: str) -> list[tuple[bool, str]]:
    """Return whether each tag of a list is weak, and its text. Raises InvalidInput."""
    tags: list[tuple[bool, str]] = []
    place = 0
    while place < len(header):
        match = _LISTED_TAG.match(header, place)
        if match is None:
            tags = []
            break
        if match.group(2) is not None:
            tags.append((match.group(1) is not None, match.group(2)))
        place = match.end()
    if not tags:
        raise InvalidInput(
            "invalid-request",
            "If-Match is not a list of entity tags. Send the ETag of an earlier response with its"
            ' quotes, as in If-Match: "3", or * for any.',
        )
    return tags


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
