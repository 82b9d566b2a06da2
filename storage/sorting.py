"""The orders of lists of masters: by the time of upload, or by the value at a path.

The order is the same on every backend: numbers, then texts by code point, then false and true;
masters without such a value come last, in both directions. Ties are ordered by id. A list or an
object is no such value, and a text counts by its first 255 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from storage.filters import MISSING, Path, Scalar, find_value, parse_path, type_name
from storage.list_records import Position
from storage.records import Master

MAX_TEXT = 255  # characters that count; MariaDB sorts by the first 1024 bytes
NAME = ("name",)
CAPTURE_TIME = ("capture", "time")
_RANKS = {"number": 0, "string": 1, "boolean": 2}
NO_RANK = 3


class InvalidSort(ValueError):
    """The order is invalid; the message says why."""


@dataclass(frozen=True)
class Sort:
    """An order of masters.

    The name, and the times of upload and capture, are the built-in ones, even if attributes have
    their keys. Other paths are those of a filter.
    """

    path: Path
    descending: bool = False

    @property
    def by_id(self) -> bool:
        """Whether masters are in the order of their ids, which is that of their uploads."""
        return self.path == ("created_at",)

    @property
    def by_column(self) -> bool:
        """Whether a column of the metadata database has the values."""
        return self.by_id or self.path in (NAME, CAPTURE_TIME)


NEWEST_FIRST = Sort(("created_at",), descending=True)


def parse_sort(text: str) -> Sort:
    """Parse a dotted path; a hyphen before it reverses the order. Raises InvalidSort."""
    path = parse_path(text.removeprefix("-"), InvalidSort)
    return Sort(path, descending=text.startswith("-"))


def write_sort(sort: Sort) -> str:
    """Return the text of an order, as ``parse_sort`` reads it."""
    return "-" * sort.descending + ".".join(sort.path)


def position_of(master: Master, sort: Sort) -> Position:
    """Return the place behind a master in a list of this order."""
    return Position(master.id, None if sort.by_id else _sort_value(master, sort.path))


def _sort_value(master: Master, path: Path) -> Scalar | None:
    if path in (NAME, CAPTURE_TIME):
        return clean_value(find_value(master.built_in_fields, path))
    return clean_value(find_value(master.filterable, path))


def clean_value(value: Any) -> Scalar | None:
    """Return what counts of a value; None for a list, an object or a missing value."""
    if value is MISSING or type_name(value) not in _RANKS:
        return None
    cleaned: Scalar = value[:MAX_TEXT] if isinstance(value, str) else value
    return cleaned


def rank_of(value: Scalar | None) -> int:
    """Return the place of a value's type in the order."""
    return NO_RANK if value is None else _RANKS[type_name(value)]


def sort_key(master: Master, sort: Sort) -> tuple[int, Scalar, UUID]:
    """Return what masters are compared by; those without a value come last in both directions.

    With a descending order, sort in reverse.
    """
    value = position_of(master, sort).value
    if value is None:
        return (-1 if sort.descending and not sort.by_id else NO_RANK, 0, master.id)
    return rank_of(value), value, master.id
