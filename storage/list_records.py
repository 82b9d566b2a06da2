"""The values that lists of masters consist of: pages, positions, fields, and numbers by month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from storage.records import Attributes, Master

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Position:
    """The place in a sorted list behind a master, which may have changed or gone meanwhile.

    ``value`` is what the master was sorted by: None if it has no such value, or if the list is
    sorted by ids.
    """

    id: UUID
    value: str | bool | int | float | None = None


@dataclass(frozen=True)
class Page:
    """A part of a list; ``next_after`` is the position to continue behind, None at the end.

    ``total`` is the number of masters in the whole list.
    """

    masters: list[Master]
    next_after: Position | None
    total: int


@dataclass(frozen=True)
class MasterFields:
    """What filters see of a master."""

    id: UUID
    attributes: Attributes
    built_in: Attributes  # the built-in fields


@dataclass(frozen=True)
class Months:
    """How many masters were taken in each month (UTC), as 2024-05; the newest comes first."""

    months: list[tuple[str, int]]
    undated: int  # masters whose files have no capture time
    unread: int  # masters whose files have not been read yet


def count_by_month(days: Iterable[tuple[int, int]]) -> list[tuple[str, int]]:
    """Sum up numbers by days, which are counted from 1970, to numbers by months, newest first."""
    months: Counter[str] = Counter()
    for day, number in days:
        month = (_EPOCH + timedelta(days=day)).isoformat()[:7]
        months[month] += number
    return sorted(months.items(), reverse=True)
