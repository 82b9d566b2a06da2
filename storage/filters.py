"""The filter on attributes and built-in fields: its syntax tree and its meaning.

``matches`` defines the meaning for every backend:

- A missing key matches only ``{"$exists": false}`` and the negations: ``$not``, ``$ne``, ``$nin``.
- Values of different types never compare. Numbers compare by value, so 1 equals 1.0. True and
  false equal only themselves, never 1 or 0. Strings compare by code point.
- A list or an object equals nothing; ``$contains`` searches a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.patterns import fits_pattern
from storage.unicode_text import UNSAFE, normalize_text

Scalar = str | bool | int | float
Path = tuple[str, ...]

MAX_PATH = 16  # keys; MariaDB follows a path of 31 at most
MAX_KEY_LENGTH = 64
MAX_SAFE_INTEGER = 2**53 - 1  # JSON readers disagree about larger ones (RFC 7493, 2.2)


@dataclass(frozen=True)
class Equals:
    path: Path
    value: Scalar


@dataclass(frozen=True)
class In:
    path: Path
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Range:
    """``operator`` is one of gt, gte, lt, lte; the bound is a number or a string."""

    path: Path
    operator: str
    bound: str | int | float


@dataclass(frozen=True)
class Like:
    """The value is a text that matches a pattern; see ``storage.patterns``."""

    path: Path
    pattern: str


@dataclass(frozen=True)
class Contains:
    path: Path
    value: Scalar


@dataclass(frozen=True)
class Exists:
    path: Path


@dataclass(frozen=True)
class And:
    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    part: Filter


Filter = Equals | In | Range | Like | Contains | Exists | And | Or | Not


def quote_text(text: str) -> str:
    """Return the first 40 characters in single quotes; those that are unsafe are escaped."""
    shown = UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:40])
    return f"'{shown}'"


def check_text(text: str, error: Callable[[str], Exception]) -> None:
    """Raise ``error(message)`` for NUL and half of a surrogate pair, which no store keeps."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise error("text with a NUL character or half of a surrogate pair cannot be stored")


def check_key(key: str, error: Callable[[str], Exception]) -> None:
    """Raise ``error(message)`` for an attribute key that not every store can address."""
    check_text(key, error)
    # MariaDB does not find keys that begin with a hyphen.
    bad = not key or len(key) > MAX_KEY_LENGTH or key.startswith(("$", "-"))
    if bad or any(character in '."\\' or character < " " for character in key):
        raise error(
            f"the key {quote_text(key)} cannot be used. A key has 1 to {MAX_KEY_LENGTH} characters,"
            " does not start with $ or -, and contains no dot, double quote, backslash or control"
            " character."
        )


def parse_path(text: str, error: Callable[[str], Exception]) -> Path:
    """Parse a dotted path, as in a filter. Raises ``error(message)``."""
    path = tuple(normalize_text(text).split("."))
    if len(path) > MAX_PATH:
        raise error(f"a path has at most {MAX_PATH} keys")
    for key in path:
        check_key(key, error)
    return path


def count_conditions(filter: Filter) -> int:
    """Return the number of comparisons in the filter."""
    match filter:
        case And(parts) | Or(parts):
            return sum(map(count_conditions, parts))
        case Not(part):
            return count_conditions(part)
        case _:
            return 1


def list_paths(filter: Filter) -> set[Path]:
    """Return the paths that the comparisons in the filter are about."""
    match filter:
        case And(parts) | Or(parts):
            return set().union(*map(list_paths, parts))
        case Not(part):
            return list_paths(part)
        case _:
            return {filter.path}


def type_name(value: object) -> str:
    """Return the type of a value: boolean, number, string, list or object."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "object"


def _equal(value: object, wanted: Scalar) -> bool:
    return type_name(value) == type_name(wanted) and value == wanted


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}
MISSING = object()


def in_order(value: object, operator: str, bound: str | int | float) -> bool:
    """Return whether ``value operator bound`` holds; False for values of different types."""
    return type_name(value) == type_name(bound) and _ORDER[operator](value, bound)


def find_value(document: dict[str, Any], path: Path) -> object:
    """Return the value at a path of a document, or MISSING."""
    value: object = document
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def matches(filter: Filter, attributes: dict[str, Any]) -> bool:
    """Return whether a master with these attributes passes the filter.

    This is the reference that the evaluation of every backend must agree with.
    """
    match filter:
        case And(parts):
            return all(matches(part, attributes) for part in parts)
        case Or(parts):
            return any(matches(part, attributes) for part in parts)
        case Not(part):
            return not matches(part, attributes)
    value = find_value(attributes, filter.path)
    if value is MISSING:
        return False
    match filter:
        case Equals(_, wanted):
            return _equal(value, wanted)
        case In(_, values):
            return any(_equal(value, wanted) for wanted in values)
        case Range(_, operator, bound):
            return in_order(value, operator, bound)
        case Like(_, pattern):
            return isinstance(value, str) and fits_pattern(pattern, value)
        case Contains(_, wanted):
            return isinstance(value, list) and any(_equal(item, wanted) for item in value)
        case Exists():
            return True
