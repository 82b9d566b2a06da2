"""Summarises the attributes of a collection's masters: what a filter can be built from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.services.collections import Collections
from storage.filters import Scalar, type_name
from storage.protocols import MetadataStore

_MAX_MASTERS = 100_000  # read per summary, to bound the time
_MAX_VALUES = 10_000  # counted per key, to bound the memory
_PAGE = 5_000


@dataclass
class AttributeSummary:
    """One key as a filter spells it, with its types and values. List items count one by one."""

    key: str
    masters: int = 0  # number of masters with the key
    types: set[str] = field(default_factory=set)
    # by type and value, because 1 and true are equal in Python and differ in JSON
    counts: Counter[tuple[str, Scalar]] = field(default_factory=Counter)
    minimum: float | None = None
    maximum: float | None = None

    def most_frequent(self, limit: int) -> list[tuple[Scalar, int]]:
        """Return the ``limit`` most frequent values with their numbers of occurrences."""
        ordered = sorted(self.counts.items(), key=_frequency_order)
        return [(value, count) for (_, value), count in ordered[:limit]]

    def add_value(self, value: object) -> None:
        """Count the value that one master has under this key."""
        self.masters += 1
        self.types.add(type_name(value))
        for item in value if isinstance(value, list) else [value]:
            self._count_scalar(item)

    def _count_scalar(self, value: Any) -> None:
        typed = (type_name(value), value)
        if typed in self.counts or len(self.counts) < _MAX_VALUES:
            self.counts[typed] += 1
        if typed[0] == "number":
            self.minimum = value if self.minimum is None else min(self.minimum, value)
            self.maximum = value if self.maximum is None else max(self.maximum, value)


def _frequency_order(item: tuple[tuple[str, Scalar], int]) -> tuple[int, str]:
    (_, value), count = item
    return -count, str(value)


class Attributes:
    """The attribute keys and values that the masters of a collection have."""

    def __init__(self, metadata: MetadataStore, collections: Collections) -> None:
        self._metadata = metadata
        self._collections = collections

    def summarize_attributes(self, name: str) -> tuple[list[AttributeSummary], int]:
        """Summarise the newest 100 000 masters of the collection ``name``.

        Returns one summary per key, the most widespread key first, and the number of masters that
        were read. Raises InvalidInput, NotFound, StoreUnavailable.
        """
        collection = self._collections.find_collection(name)
        summaries: dict[str, AttributeSummary] = {}
        after, masters = None, 0
        while masters < _MAX_MASTERS:
            rows = self._metadata.list_attributes(collection.id, _PAGE, after)
            for _, attributes in rows:
                for key, value in flatten_attributes(attributes):
                    summaries.setdefault(key, AttributeSummary(key)).add_value(value)
            masters += len(rows)
            if len(rows) < _PAGE:
                break
            after = rows[-1][0]
        ordered = sorted(summaries.values(), key=lambda summary: (-summary.masters, summary.key))
        return ordered, masters


def flatten_attributes(
    attributes: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield keys and values. The keys of nested objects are joined by dots, as in filters."""
    for key, value in attributes.items():
        if isinstance(value, dict):
            yield from flatten_attributes(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
