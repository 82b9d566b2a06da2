"""Cursors: the positions in sorted lists, as text that clients pass back unchanged."""

from __future__ import annotations

import base64
import json
import math
from typing import Any
from uuid import UUID

from app.errors import InvalidInput
from app.services.found_groups import GroupOrder, GroupPosition
from app.services.queries import HitPosition
from app.services.results import MAX_PASSED
from app.services.view_search import MAX_DISTANCE
from storage.filters import MAX_SAFE_INTEGER, check_text
from storage.list_records import Position
from storage.protocols.duplicates import IdPair
from storage.sorting import CAPTURE_TIME, MAX_TEXT, NAME, NEWEST_FIRST, Sort, write_sort


def write_cursor(position: Position, sort: Sort) -> str:
    """Return the cursor of a position in a list of this order.

    It is the id of a master if the newest come first, as in earlier releases.
    """
    if sort == NEWEST_FIRST:
        return str(position.id)
    return _encode([write_sort(sort), position.value, position.id.hex])


def parse_cursor(text: str | None, sort: Sort) -> Position | None:
    """Parse a page's ``next_cursor``; None for an empty or missing one. Raises InvalidInput."""
    if not text:
        return None
    try:
        return Position(UUID(text)) if sort == NEWEST_FIRST else _parse(text, sort)
    except (ValueError, RecursionError):
        raise _invalid_cursor() from None


def write_hit_cursor(position: HitPosition) -> str:
    """Return the cursor of a place among the hits of a search."""
    return _encode([position.search, position.distance, position.id.hex, position.passed])


def parse_hit_cursor(text: str | None) -> HitPosition | None:
    """Parse an answer's ``next_cursor``; None for an empty or missing one. Raises InvalidInput."""
    if not text:
        return None
    try:
        search, distance, id_, passed = _decode(text, 4)
        if not _is_place(search, distance, id_, passed):
            raise ValueError("it is no place")
        return HitPosition(distance, UUID(hex=id_), passed, search)
    except (ValueError, RecursionError):
        detail = "cursor takes the next_cursor of the previous page of this search, unchanged."
        raise InvalidInput("invalid-cursor", detail) from None


def write_group_cursor(position: GroupPosition, order: GroupOrder) -> str:
    """Return the cursor of a place among groups of duplicates in this order."""
    return _encode([order, position.size, position.certainty, position.representative.hex()])


def parse_group_cursor(text: str | None, order: GroupOrder) -> GroupPosition | None:
    """Parse a page's ``next_cursor``; None for an empty or missing one. Raises InvalidInput."""
    if not text:
        return None
    try:
        its_order, size, certainty, id_ = _decode(text, 4)
        if its_order != order or type(size) is not int or type(certainty) is not int:
            raise ValueError("it is no place in this order")
        return GroupPosition(size, certainty, UUID(hex=str(id_)).bytes)
    except (ValueError, RecursionError):
        raise _invalid_cursor() from None


def write_decision_cursor(masters: IdPair) -> str:
    """Return the cursor of a place among decisions about two masters."""
    return _encode([id_.hex for id_ in masters])


def parse_decision_cursor(text: str | None) -> IdPair | None:
    """Parse a page's ``next_cursor``; None for an empty or missing one. Raises InvalidInput."""
    if not text:
        return None
    try:
        first, second = _decode(text, 2)
        return UUID(hex=str(first)), UUID(hex=str(second))
    except (ValueError, RecursionError):
        raise _invalid_cursor() from None


def _invalid_cursor() -> InvalidInput:
    detail = "cursor takes the next_cursor of the previous page, unchanged, and with the same sort."
    return InvalidInput("invalid-cursor", detail)


def _is_place(search: Any, distance: Any, id_: Any, passed: Any) -> bool:
    texts = isinstance(search, str) and isinstance(id_, str)
    numbers = type(passed) is int and type(distance) is float
    return texts and numbers and -1 <= distance <= MAX_DISTANCE and 0 <= passed <= MAX_PASSED


def _encode(form: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(form).encode()).decode().rstrip("=")


def _decode(text: str, length: int) -> list[Any]:
    """Return the list in a cursor. Raises ValueError, RecursionError."""
    form = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    if not isinstance(form, list) or len(form) != length:
        raise ValueError("it is no position")
    return form


def _parse(text: str, sort: Sort) -> Position:
    """Return the position. Raises ValueError if it is none in a list of this order."""
    order, value, id_ = _decode(text, 3)
    if order != write_sort(sort):
        raise ValueError("it is the cursor of another order")
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
