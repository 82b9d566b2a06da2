"""The attribute filter: its JSON form, its syntax tree and its meaning.

``matches`` defines the meaning for every backend:

- A missing key matches only ``{"$exists": false}`` and the negations: ``$not``, ``$ne``, ``$nin``.
- Values of different types never compare. Numbers compare by value, so 1 equals 1.0. True and
  false equal only themselves, never 1 or 0. Strings compare by code point.
- A list or an object equals nothing; ``$contains`` searches a list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage.filter_values import parse_globe_box, parse_moment
from storage.patterns import escape_pattern, find_literal, fits_pattern
from storage.unicode_text import UNSAFE, normalize_text

Scalar = str | bool | int | float
Path = tuple[str, ...]

MAX_NODES = 100
MAX_DEPTH = 10
MAX_VALUES = 1000
MAX_PATH = 16  # keys; MariaDB follows a path of 31 at most
MAX_KEY_LENGTH = 64
MAX_SAFE_INTEGER = 2**53 - 1  # JSON readers disagree about larger ones (RFC 7493, 2.2)


class InvalidFilter(ValueError):
    """The filter is invalid; the message names the place and what is expected there."""


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


def parse_filter(form: object) -> Filter:
    """Parse the JSON form, given as Python values, into a syntax tree. Raises InvalidFilter."""
    try:
        return _Parser().conditions(form, (), 0)
    except RecursionError:  # a value that is nested deep, which the message would show
        raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep") from None


_COMPARISONS = (
    *("$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte"),
    *("$prefix", "$like", "$contains", "$exists", "$within"),
)
_CAPTURE_TIME = ("capture", "time")  # a moment, which is stored as milliseconds since 1970
_CREATED_AT = ("created_at",)  # likewise, unless a master has an attribute of that name


class _Parser:
    def __init__(self) -> None:
        self.nodes = 0

    def conditions(self, form: object, prefix: Path, depth: int) -> Filter:
        """Parse an object, all of whose members must hold; ``prefix`` is the path it is about."""
        if not isinstance(form, dict) or not form:
            raise InvalidFilter(
                f'{_where(prefix)}: expected a non-empty object such as {{"colour": "red"}}'
            )
        if depth > MAX_DEPTH:
            raise InvalidFilter(f"the filter is nested more than {MAX_DEPTH} deep")
        if any(key in _COMPARISONS for key in form) and not all(
            key.startswith("$") for key in form
        ):
            raise InvalidFilter(
                f"{_where(prefix)}: operators and keys cannot be mixed in one object"
            )
        parts = tuple(self.member(key, value, prefix, depth) for key, value in form.items())
        return parts[0] if len(parts) == 1 else And(parts)

    def member(self, key: str, value: object, prefix: Path, depth: int) -> Filter:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise InvalidFilter(f"the filter has more than {MAX_NODES} conditions")
        if key in ("$and", "$or"):
            if not isinstance(value, list) or not value:
                raise InvalidFilter(f"{key}: expected a non-empty list of filters")
            parts = tuple(self.conditions(part, prefix, depth + 1) for part in value)
            return And(parts) if key == "$and" else Or(parts)
        if key == "$not":
            return Not(self.conditions(value, prefix, depth + 1))
        if key.startswith("$"):
            return self.comparison(key, value, prefix)
        path = prefix + tuple(normalize_text(key).split("."))
        if len(path) > MAX_PATH:
            raise InvalidFilter(f"{_quote(key)}: a path has at most {MAX_PATH} keys")
        for part in path:
            check_key(part, lambda message: InvalidFilter(f"{_quote(key)}: {message}"))
        if isinstance(value, dict):
            return self.conditions(value, path, depth + 1)
        return _equals(path, _scalar(value, path))

    def comparison(self, operator: str, value: object, path: Path) -> Filter:
        if operator not in _COMPARISONS:
            known = ", ".join((*_COMPARISONS, "$and", "$or", "$not"))
            raise InvalidFilter(
                f"{_quote(operator)} is not an operator. The operators are {known}."
            )
        if not path:
            raise InvalidFilter(
                f'{operator}: the operator needs a key, as in {{"key": {{"{operator}": …}}}}'
            )
        if operator in ("$in", "$nin"):
            if not isinstance(value, list) or len(value) > MAX_VALUES:
                raise InvalidFilter(
                    f"{_where(path)}: {operator} takes a list of at most {MAX_VALUES} values"
                )
            values = [each for item in value for each in _ways(path, _scalar(item, path))]
            among = In(path, tuple(values))
            return among if operator == "$in" else Not(among)
        if operator == "$exists":
            if not isinstance(value, bool):
                raise InvalidFilter(f"{_where(path)}: $exists takes true or false")
            return Exists(path) if value else Not(Exists(path))
        if operator == "$within":
            self.nodes += 3  # it becomes four conditions
            return _within(path, value)
        scalar = _scalar(value, path)
        if operator in ("$prefix", "$like"):
            return _like(path, operator, scalar)
        if operator == "$contains":
            return Contains(path, scalar)
        if operator in ("$eq", "$ne"):
            return _equals(path, scalar) if operator == "$eq" else Not(_equals(path, scalar))
        if isinstance(scalar, bool):
            raise InvalidFilter(f"{_where(path)}: {operator} takes a number or a string")
        ranges = [Range(path, operator[1:], each) for each in _ways(path, scalar)]
        return ranges[0] if len(ranges) == 1 else Or(tuple(ranges))


def _ways(path: Path, value: Any) -> tuple[Any, ...]:
    """Return the values that a master may have for this one.

    A moment is stored as a number, and written as text. Raises InvalidFilter.
    """
    if not isinstance(value, str) or path not in (_CAPTURE_TIME, _CREATED_AT):
        return (value,)
    moment = parse_moment(value)
    if path == _CREATED_AT:
        return (value,) if moment is None else (value, moment)
    if moment is None:
        raise InvalidFilter(
            f"{_where(path)}: {_quote(value)} is not a time in ISO 8601, such as 2024-05-01 or"
            " 2024-05-01T10:00:00+02:00"
        )
    return (moment,)


def _equals(path: Path, value: Scalar) -> Filter:
    ways = _ways(path, value)
    return Equals(path, ways[0]) if len(ways) == 1 else In(path, ways)


def _like(path: Path, operator: str, value: Scalar) -> Filter:
    if path == _CAPTURE_TIME or not isinstance(value, str):
        hint = "; compare times with $gte and $lt" if path == _CAPTURE_TIME else ""
        raise InvalidFilter(
            f"{_where(path)}: {operator} takes a string, and compares strings{hint}"
        )
    pattern = value if operator == "$like" else f"{escape_pattern(value)}%"
    try:
        literal = find_literal(pattern)
    except ValueError as error:
        raise InvalidFilter(f"{_where(path)}: {operator}: {error}") from None
    return Like(path, pattern) if literal is None else Equals(path, literal)


def _within(path: Path, value: object) -> Filter:
    try:
        west, south, east, north = parse_globe_box(value)
    except ValueError as error:
        raise InvalidFilter(f"{_where(path)}: $within {error}") from None
    latitude, longitude = (*path, "latitude"), (*path, "longitude")
    sides = (Range(longitude, "gte", west), Range(longitude, "lte", east))
    between = And(sides) if west <= east else Or(sides)
    return And((Range(latitude, "gte", south), Range(latitude, "lte", north), between))


def _where(path: Path) -> str:
    return ".".join(path) or "filter"


def _scalar(value: object, path: Path) -> Scalar:
    if isinstance(value, str):
        check_text(value, lambda message: InvalidFilter(f"{_where(path)}: {message}"))
        return normalize_text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidFilter(
        f"{_where(path)}: {json.dumps(value)[:40]} is not a value to compare with. Use a string,"
        " true, false or a number up to 2^53. For a missing value, use"
        ' {"$exists": false}.'
    )


def _quote(text: str) -> str:
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
            f"the key {_quote(key)} cannot be used. A key has 1 to {MAX_KEY_LENGTH} characters,"
            " does not start with $ or -, and contains no dot, double quote, backslash or control"
            " character."
        )


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
