"""Summarises the attributes and built-in fields of a collection, to build filters from."""

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


# Built-in fields that differ in nearly every master: their values are not counted.
_UNIQUE = frozenset(
    {
        *("name", "size", "created_at", "capture.time", "capture.caption"),
        *("capture.gps.latitude", "capture.gps.longitude", "capture.gps.altitude"),
    }
)


@dataclass(frozen=True)
class Summary:
    """What the newest masters of a collection have; the most widespread keys come first."""

    attributes: list[AttributeSummary]
    fields: list[AttributeSummary]  # the built-in fields
    masters: int  # number of masters that were read


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

    def add_value(self, value: object, *, counted: bool = True) -> None:
        """Add the value that one master has under this key; ``counted`` counts equal ones."""
        self.masters += 1
        self.types.add(type_name(value))
        for item in value if isinstance(value, list) else [value]:
            self._add_scalar(item, counted)

    def _add_scalar(self, value: Any, counted: bool) -> None:
        typed = (type_name(value), value)
        if counted and (typed in self.counts or len(self.counts) < _MAX_VALUES):
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

    def summarize_attributes(self, name: str) -> Summary:
        """Summarise the newest 100 000 masters of the collection ``name``.

        Raises InvalidInput, NotFound, StoreUnavailable.
        """
        collection = self._collections.find_collection(name)
        attributes: dict[str, AttributeSummary] = {}
        fields: dict[str, AttributeSummary] = {}
        after, masters = None, 0
        while masters < _MAX_MASTERS:
            rows = self._metadata.list_fields(collection.id, _PAGE, after)
            for row in rows:
                for key, value in flatten_attributes(row.attributes):
                    attributes.setdefault(key, AttributeSummary(key)).add_value(value)
                for key, value in flatten_attributes(row.built_in):
                    summary = fields.setdefault(key, AttributeSummary(key))
                    summary.add_value(value, counted=key not in _UNIQUE)
            masters += len(rows)
            if len(rows) < _PAGE:
                break
            after = rows[-1].id
        return Summary(_in_order(attributes), _in_order(fields), masters)


def _in_order(summaries: dict[str, AttributeSummary]) -> list[AttributeSummary]:
    return sorted(summaries.values(), key=lambda summary: (-summary.masters, summary.key))


def flatten_attributes(
    attributes: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield keys and values. The keys of nested objects are joined by dots, as in filters."""
    for key, value in attributes.items():
        if isinstance(value, dict):
            yield from flatten_attributes(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
