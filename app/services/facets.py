"""Counts the values that hits have at some paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.services.attributes import AttributeSummary
from app.services.ranking import Hit
from storage.filters import MISSING, Path, Scalar, find_value

_SHOWN = 20  # values of a path


@dataclass(frozen=True)
class Facet:
    """The most frequent values at a path. The items of a list count one by one."""

    path: Path
    values: list[tuple[Scalar, int]]
    others: int  # how often masters have other values
    masters: int  # number of masters that have a value


@dataclass(frozen=True)
class Facets:
    """Facets of the nearest masters."""

    facets: list[Facet]
    masters: int  # number of masters that were counted
    complete: bool  # whether they are all that are within the maximum distance


def count_values(hits: Sequence[Hit], path: Path) -> Facet:
    """Count the values at a path; an object is none."""
    summary, occurrences = AttributeSummary(".".join(path)), 0
    for hit in hits:
        value = find_value(hit.master.filterable, path)
        if value is MISSING or value is None or isinstance(value, dict):
            continue
        summary.add_value(value)
        occurrences += len(value) if isinstance(value, list) else 1
    values = summary.most_frequent(_SHOWN)
    others = occurrences - sum(count for _, count in values)
    return Facet(path, values, others, summary.masters)
