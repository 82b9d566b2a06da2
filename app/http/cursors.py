"""Cursors: the positions in sorted lists, as text that clients pass back unchanged."""

from __future__ import annotations

import base64
import json
import math
from typing import Any
from uuid import UUID

from app.errors import InvalidInput
from storage.filters import MAX_SAFE_INTEGER, check_text
from storage.list_records import Position
from storage.sorting import CAPTURE_TIME, MAX_TEXT, NAME, NEWEST_FIRST, Sort, write_sort


def write_cursor(position: Position, sort: Sort) -> str:
    """Return the cursor of a position in a list of this order.

    It is the id of a master if the newest come first, as in earlier releases.
    """
    if sort == NEWEST_FIRST:
        return str(position.id)
    form = json.dumps([write_sort(sort), position.value, position.id.hex])
    return base64.urlsafe_b64encode(form.encode()).decode().rstrip("=")


def parse_cursor(text: str | None, sort: Sort) -> Position | None:
    """Parse a page's ``next_cursor``; None for an empty or missing one. Raises InvalidInput."""
    if not text:
        return None
    try:
        return Position(UUID(text)) if sort == NEWEST_FIRST else _parse(text, sort)
    except (ValueError, RecursionError):
        detail = (
            "cursor takes the next_cursor of the previous page, unchanged, and with the same sort."
        )
        raise InvalidInput("invalid-cursor", detail) from None


def _parse(text: str, sort: Sort) -> Position:
    """Return the position. Raises ValueError if it is none in a list of this order."""
    form = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    if not isinstance(form, list) or len(form) != 3 or form[0] != write_sort(sort):
        raise ValueError("it is the cursor of another order")
    _, value, id_ = form
    if not isinstance(id_, str) or not _can_be_sorted(value, sort):
        raise ValueError("it is no position")
    return Position(UUID(hex=id_), value)


def _can_be_sorted(value: Any, sort: Sort) -> bool:
    """Return whether a list of this order can have the value. Raises ValueError for some texts."""
    if isinstance(value, str):
        check_text(value, ValueError)
        return len(value) <= MAX_TEXT and not sort.by_id and sort.path != CAPTURE_TIME
    if value is None:
        return sort.path != NAME
    is_safe = isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER
    if sort.by_column:
        return is_safe and not isinstance(value, bool) and sort.path == CAPTURE_TIME
    return is_safe or (isinstance(value, float) and math.isfinite(value))
