"""Chooses which of several near-identical masters to keep, and merges their attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from storage.attributes import clean_attributes, merge_patch
from storage.records import Attributes, Master

# WebP, AVIF, HEIC and JPEG XL may be either, and are nearly always lossy.
_LOSSLESS = frozenset({"image/png", "image/bmp", "image/tiff"})
_CAMERA_RAW = "image/x-"


class Rule(StrEnum):
    """What makes a master better than another."""

    RESOLUTION = "resolution"  # more pixels
    SIZE = "size"  # more bytes
    FORMAT = "format"  # a lossless format
    OLDEST = "oldest"  # uploaded earlier
    ATTRIBUTES = "attributes"  # more values in its attributes


@dataclass(frozen=True)
class Choice:
    """One master to keep, the others, and the new attributes of the first; None: no change."""

    kept: Master
    others: tuple[Master, ...]
    attributes: Attributes | None = None


def sort_best_first(masters: Iterable[Master], rules: Sequence[Rule]) -> list[Master]:
    """Return the masters in the order of the rules, the first of which matters most.

    Those that are equal by all of them are sorted by the time of upload, the oldest first.
    """

    def key(master: Master) -> tuple[Any, ...]:
        return (*(_MEASURES[rule](master) for rule in rules), master.created_at, master.id)

    return sorted(masters, key=key)


def merge_all(kept: Attributes, others: Iterable[Attributes]) -> Attributes | None:
    """Return the attributes of ``kept`` with what it lacks of the others, the first ones first.

    Documents are merged at all levels; any other value of ``kept`` stays. Returns None if nothing
    is added. Raises InvalidAttributes if the result breaks a rule.
    """
    merged = kept
    for attributes in others:
        merged = merge_patch(attributes, merged)
    return None if _text(merged) == _text(kept) else clean_attributes(merged)


def _text(attributes: Attributes) -> str:
    return json.dumps(attributes, sort_keys=True)


def _is_lossy(master: Master) -> bool:
    return master.mime not in _LOSSLESS and not master.mime.startswith(_CAMERA_RAW)


def _count_values(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(_count_values, value.values()))
    return 1


# Lower is better.
_MEASURES: dict[Rule, Callable[[Master], int]] = {
    Rule.RESOLUTION: lambda master: -master.width * master.height,
    Rule.SIZE: lambda master: -master.size,
    Rule.FORMAT: _is_lossy,
    Rule.OLDEST: lambda master: master.created_at,
    Rule.ATTRIBUTES: lambda master: -_count_values(master.attributes),
}
