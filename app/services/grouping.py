"""Groups hits by the value at a path: the nearest of each value, and further ones on request.

The filter of the search leaves out the values that were found, so that a value with thousands of
near masters does not hide the others. A vector store that cannot express this reads on instead. A
master without a value is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.services.queries import Query
from app.services.ranking import Hit, Ranking
from storage.filters import In, Not, Path, Scalar, find_value, type_name
from storage.records import Master

_MOST_READ = 100_000  # hits, to find the groups of a search, and again to find their further hits
_LEAST_READ = 20  # at once
Key = tuple[str, Scalar]  # with the type, because 1 and true are equal in Python


@dataclass
class Group:
    """The hits with one value at the path: the nearest one, and the further ones after it."""

    value: Scalar | None  # None: the master has none, and is alone
    more: list[Hit] = field(default_factory=list)


def find_key(master: Master, path: Path) -> Key | None:
    """Return a value and its type; None for a list, an object or a missing value."""
    value = find_value(master.filterable, path)
    return (type_name(value), value) if isinstance(value, str | bool | int | float) else None


def find_first_of_groups(ranking: Ranking, query: Query, path: Path, wanted: int) -> list[Hit]:
    """Return the nearest hit of each of the ``wanted`` nearest groups.

    There are fewer than exist only if _MOST_READ hits were read before. Raises what
    ``Ranking.find_hits`` raises.
    """
    firsts: list[Hit] = []
    keys: set[Key] = set()
    alone: set[UUID] = set()
    read = 0
    while True:
        reach = max(2 * (wanted - len(firsts)), _LEAST_READ)
        if read == 0:
            hits = ranking.find_hits(query, reach)
        else:
            hits = ranking.find_nearest(
                _leave_out(query, path, keys), reach, alone, most=_MOST_READ
            )
        for hit in hits:
            key = find_key(hit.master, path)
            if key is None:
                alone.add(hit.master.id)
            if key is None or key not in keys:
                firsts.append(hit)
            if key is not None:
                keys.add(key)
        read += len(hits)
        if len(firsts) >= wanted or len(hits) < reach or read >= _MOST_READ:
            return firsts[:wanted]


def fill_groups(
    ranking: Ranking, query: Query, path: Path, firsts: Sequence[Hit], size: int
) -> dict[UUID, Group]:
    """Return the group of each of these hits, by its id, with up to ``size`` hits in each.

    There are fewer than exist only if _MOST_READ hits were read before. Raises what
    ``Ranking.find_nearest`` raises.
    """
    groups: dict[UUID, Group] = {}
    open_groups: dict[Key, Group] = {}
    for hit in firsts:
        key = find_key(hit.master, path)
        groups[hit.master.id] = Group(None if key is None else key[1])
        if key is not None and size > 1:
            open_groups[key] = groups[hit.master.id]
    seen, read = set(groups), 0
    while open_groups and read < _MOST_READ:
        reach = sum(size - 1 - len(group.more) for group in open_groups.values())
        hits = ranking.find_nearest(query.narrow(_among(path, open_groups)), reach, seen)
        for hit in hits:
            key = find_key(hit.master, path)
            if key is None or key not in open_groups:
                continue
            seen.add(hit.master.id)
            open_groups[key].more.append(hit)
            if len(open_groups[key].more) == size - 1:
                del open_groups[key]
        read += len(hits)
        if len(hits) < reach:
            break
    return groups


def _leave_out(query: Query, path: Path, keys: Iterable[Key]) -> Query:
    values = _among(path, keys)
    return query.narrow(Not(values)) if values.values else query


def _among(path: Path, keys: Iterable[Key]) -> In:
    return In(path, tuple(value for _, value in keys))
