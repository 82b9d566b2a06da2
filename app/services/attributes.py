"""What attributes the masters of a collection have: what a filter can be built from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.services.collections import Collections
from storage.filters import Scalar, type_name
from storage.protocols import MetadataStore

_LOOKED_AT = 100_000  # newest masters at most: bounds the time
_COUNTED = 10_000  # different values of a key at most: bounds the memory
_PAGE = 5_000


@dataclass
class AttributeSummary:
    """One key, as a filter spells it; the values of a list count one by one."""

    key: str
    masters: int = 0  # that have it
    types: set[str] = field(default_factory=set)
    counts: Counter[tuple[str, Scalar]] = field(
        default_factory=Counter
    )  # (type, value): 1 and true are two values
    minimum: float | None = None
    maximum: float | None = None

    def most_frequent(self, limit: int) -> list[tuple[Scalar, int]]:
        return [
            (value, count)
            for (_, value), count in sorted(self.counts.items(), key=_by_count)[:limit]
        ]

    def add(self, value: object) -> None:
        self.masters += 1
        self.types.add(type_name(value))
        for item in value if isinstance(value, list) else [value]:
            self._count(item)

    def _count(self, value: Any) -> None:
        typed = (type_name(value), value)
        if typed in self.counts or len(self.counts) < _COUNTED:
            self.counts[typed] += 1
        if typed[0] == "number":
            self.minimum = value if self.minimum is None else min(self.minimum, value)
            self.maximum = value if self.maximum is None else max(self.maximum, value)


def _by_count(item: tuple[tuple[str, Scalar], int]) -> tuple[int, str]:
    (_, value), count = item
    return -count, str(value)


class Attributes:
    def __init__(self, metadata: MetadataStore, collections: Collections) -> None:
        self._metadata = metadata
        self._collections = collections

    def summary(self, collection: str) -> tuple[list[AttributeSummary], int]:
        """By number of masters, and how many masters were looked at: the newest 100 000. Raises NotFound."""
        found = self._collections.find(collection)
        summaries: dict[str, AttributeSummary] = {}
        after, looked_at = None, 0
        while looked_at < _LOOKED_AT:
            rows = self._metadata.list_attributes(found.id, _PAGE, after)
            for _, attributes in rows:
                for key, value in flat(attributes):
                    summaries.setdefault(key, AttributeSummary(key)).add(value)
            looked_at += len(rows)
            if len(rows) < _PAGE:
                break
            after = rows[-1][0]
        return sorted(
            summaries.values(), key=lambda summary: (-summary.masters, summary.key)
        ), looked_at


def flat(attributes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Keys of nested objects joined by dots, as filters write them."""
    for key, value in attributes.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
