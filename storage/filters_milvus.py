"""Translates the attribute filter into a Milvus expression.

Every value is written by a function that knows its type and escapes it. No expression contains a
negation, because its meaning differs between versions of Milvus: a comparison with a missing or
differently typed key is false in 2.3, so that its negation is true, but unknown in 2.6.
"""

from __future__ import annotations

import json

from storage.filters import (
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
    type_name,
)
from storage.patterns import find_end, find_start

_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NOTHING = 'id in [""]'


def expression(filter: Filter) -> str:
    """Return a boolean expression that selects every row whose attributes match, or an empty text.

    It also selects rows that only a negation or the rest of a pattern excludes; an empty text
    selects all rows.
    """
    return _select(filter, negated=False)


def _select(filter: Filter, *, negated: bool) -> str:
    """Return the expression for the filter or, if ``negated``, for its negation."""
    match filter:
        case Not(part):
            return _select(part, negated=not negated)
        case And(parts) | Or(parts):
            selected = [_select(part, negated=negated) for part in parts]
            if isinstance(filter, And) != negated:  # the negation of a conjunction is a disjunction
                selected = [part for part in selected if part]
                return _joined(selected, "&&") if selected else ""
            return _joined(selected, "||") if all(selected) else ""
        case Equals() | In() | Range() | Like() | Contains() | Exists():
            return "" if negated else _compare(filter)


def _compare(condition: Equals | In | Range | Like | Contains | Exists) -> str:
    match condition:
        case Equals(path, value):
            return f"({_field(path)} == {_literal(value)})"
        case In(path, values):
            return _among(_field(path), values)
        case Range(path, operator, bound):
            return f"({_field(path)} {_OPERATORS[operator]} {_literal(bound)})"
        case Like(path, pattern):
            return _begins(_field(path), find_start(pattern))
        case Contains(path, value):
            return _joined(
                [f"json_contains({_field(path)}, {literal})" for literal in _literals(value)], "||"
            )
        case Exists(path):
            return f"(exists {_field(path)})"


def _among(field: str, values: tuple[Scalar, ...]) -> str:
    """Return the expression that the field equals one of the values.

    Each list in it has one type: Milvus 2.3 refuses mixed lists, and treats integers and floats as
    two types.
    """
    lists: dict[str, list[str]] = {}
    for value in values:
        for literal in _literals(value):
            kind = type_name(value)
            if kind == "number" and not literal.lstrip("-").isdigit():
                kind = "float"
            lists.setdefault(kind, []).append(literal)
    return _joined(
        [f"{field} in [{', '.join(literals)}]" for literals in lists.values()] or [_NOTHING], "||"
    )


def _begins(field: str, start: str) -> str:
    """Return the expression for texts that begin like this."""
    end = find_end(start)
    bounds = [f"{field} >= {_text(start)}", *([f"{field} < {_text(end)}"] if end else [])]
    return f"({' && '.join(bounds)})"


def _joined(parts: list[str], operator: str) -> str:
    """Join the parts by halves: a chain of fifty is a tree of that depth, which Milvus refuses."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_joined(parts[:middle], operator)} {operator} {_joined(parts[middle:], operator)})"


def _field(path: Path) -> str:
    return "attributes" + "".join(f"[{_text(key)}]" for key in path)


def _literal(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        # Lists and comparisons agree only on this way of writing a whole number.
        return str(int(value))
    return repr(value)


def _literals(value: Scalar) -> list[str]:
    """Return all ways to write the value, because Milvus tells 1 from 1.0 inside a list."""
    literal = _literal(value)
    is_integer = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and literal.lstrip("-").isdigit()
    )
    return [literal, f"{literal}.0"] if is_integer else [literal]


def _text(text: str) -> str:
    """Quote a string; Milvus has the escape sequences of JSON."""
    return json.dumps(text, ensure_ascii=False)
