"""Parses the JSON form of a filter into its syntax tree.

Times, prefixes and boxes on the globe become numbers, patterns and ranges, so that the evaluators
know only the comparisons of ``storage.filters``.
"""

from __future__ import annotations

import json
import math
from typing import Any

from storage.filter_values import parse_globe_box, parse_moment
from storage.filters import (
    MAX_PATH,
    MAX_SAFE_INTEGER,
    And,
    Contains,
    Equals,
    Exists,
    Filter,
    In,
    Like,
    Not,
    Or,
    Path,
    Range,
    Scalar,
    check_key,
    check_text,
    quote_text,
)
from storage.patterns import escape_pattern, find_literal
from storage.unicode_text import normalize_text

MAX_NODES = 100
MAX_DEPTH = 10
MAX_VALUES = 1000


class InvalidFilter(ValueError):
    """The filter is invalid; the message names the place and what is expected there."""


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
            raise InvalidFilter(f"{quote_text(key)}: a path has at most {MAX_PATH} keys")
        for part in path:
            check_key(part, lambda message: InvalidFilter(f"{quote_text(key)}: {message}"))
        if isinstance(value, dict):
            return self.conditions(value, path, depth + 1)
        return _equals(path, _scalar(value, path))

    def comparison(self, operator: str, value: object, path: Path) -> Filter:
        if operator not in _COMPARISONS:
            known = ", ".join((*_COMPARISONS, "$and", "$or", "$not"))
            raise InvalidFilter(
                f"{quote_text(operator)} is not an operator. The operators are {known}."
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
            f"{_where(path)}: {quote_text(value)} is not a time in ISO 8601, such as 2024-05-01 or"
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
