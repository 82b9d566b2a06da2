"""Translates the attribute filter into a SQL condition on the attributes column.

The condition is never NULL, so that NOT negates it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

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
from storage.patterns import Piece, split_pattern

_Condition = sa.ColumnElement[bool]
_Value = sa.ColumnElement[Any]


def condition(filter: Filter, attributes: _Value, dialect: str) -> _Condition:
    """Return the condition that the attributes match the filter.

    ``dialect`` is SQLAlchemy's name of the database: sqlite, or mysql, which includes MariaDB.
    """
    functions = _Sqlite() if dialect == "sqlite" else _MySql()
    return _condition(filter, attributes, functions)


def _condition(filter: Filter, attributes: _Value, functions: _Json) -> _Condition:
    match filter:
        case And(parts):
            return sa.and_(*(_condition(part, attributes, functions) for part in parts))
        case Or(parts):
            return sa.or_(*(_condition(part, attributes, functions) for part in parts))
        case Not(part):
            return sa.not_(_condition(part, attributes, functions))
    path = _json_path(filter.path)
    match filter:
        case Equals(_, wanted):
            found = functions.among(attributes, path, (wanted,), type_name(wanted))
        case In(_, values):
            found = sa.or_(
                *(
                    functions.among(attributes, path, values, type_)
                    for type_ in ("boolean", "number", "string")
                )
            )
        case Range(_, operator, bound):
            limit: Scalar | _Value = bound
            value = functions.number(attributes, path)
            if isinstance(bound, str):
                value, limit = functions.text(attributes, path), functions.text_value(bound)
            order = {
                "gt": value > limit,
                "gte": value >= limit,
                "lt": value < limit,
                "lte": value <= limit,
            }[operator]
            found = sa.and_(functions.is_type(attributes, path, type_name(bound)), order)
        case Like(_, pattern):
            text = functions.is_type(attributes, path, "string")
            found = sa.and_(text, functions.fits(attributes, path, split_pattern(pattern)))
        case Contains(_, wanted):
            found = functions.contains(attributes, path, wanted)
        case Exists():
            found = functions.kind(attributes, path).is_not(None)
    return sa.func.coalesce(found, sa.false())


class _Json(Protocol):
    """The JSON functions of a database, and its names of the JSON types."""

    types: ClassVar[dict[str, tuple[str, ...]]]

    def kind(self, document: _Value, path: str) -> _Value: ...

    def text(self, document: _Value, path: str) -> _Value: ...

    def text_value(self, value: str) -> _Value:
        """Return the value as it compares with ``text``."""
        return sa.literal(value)

    def number(self, document: _Value, path: str) -> _Value: ...

    def contains(self, document: _Value, path: str, wanted: Scalar) -> _Condition: ...

    def fits(self, document: _Value, path: str, pieces: tuple[Piece, ...]) -> _Condition: ...

    def booleans(self, document: _Value, path: str, values: list[Scalar]) -> _Condition: ...

    def is_type(self, document: _Value, path: str, type_: str) -> _Condition:
        return self.kind(document, path).in_(self.types[type_])

    def among(
        self, document: _Value, path: str, wanted: Iterable[Scalar], type_: str
    ) -> _Condition:
        """Return the condition that the value equals one of ``wanted`` of this type.

        The values form one list, because SQLite limits the depth of an expression.
        """
        values = [item for item in wanted if type_name(item) == type_]
        if type_ == "boolean":
            return self.booleans(document, path, values)
        if type_ == "string":
            equal = self.text(document, path).in_([self.text_value(str(item)) for item in values])
        else:
            equal = self.number(document, path).in_(values)
        return sa.and_(self.is_type(document, path, type_), equal)


class _Sqlite(_Json):
    types: ClassVar = {"number": ("integer", "real"), "string": ("text",), "list": ("array",)}

    def kind(self, document: _Value, path: str) -> _Value:
        return sa.func.json_type(document, path)

    def text(self, document: _Value, path: str) -> _Value:
        return sa.func.json_extract(document, path)

    number = text

    def fits(self, document: _Value, path: str, pieces: tuple[Piece, ...]) -> _Condition:
        # GLOB instead of LIKE, which ignores the case of ASCII letters.
        text, pieces = _replace_noncharacters(self.text(document, path), pieces)
        pattern = "*".join("".join(map(_glob, piece)) for piece in pieces)
        return text.op("GLOB", is_comparison=True)(pattern)

    def booleans(self, document: _Value, path: str, values: list[Scalar]) -> _Condition:
        return self.kind(document, path).in_("true" if value else "false" for value in values)

    def contains(self, document: _Value, path: str, wanted: Scalar) -> _Condition:
        item = sa.func.json_each(document, path).table_valued("type", "value")
        if isinstance(wanted, bool):
            same: _Condition = item.c.type == ("true" if wanted else "false")
        else:
            same = sa.and_(
                item.c.type.in_(self.types[type_name(wanted)]), item.c.value == sa.literal(wanted)
            )
        return sa.and_(
            self.is_type(document, path, "list"),
            sa.exists(sa.select(1).select_from(item).where(same)),
        )


class _MySql(_Json):
    types: ClassVar = {
        "number": ("INTEGER", "UNSIGNED INTEGER", "DOUBLE", "DECIMAL"),
        "string": ("STRING",),
        "list": ("ARRAY",),
    }

    def _at(self, document: _Value, path: str) -> _Value:
        return sa.func.json_extract(document, path)

    def kind(self, document: _Value, path: str) -> _Value:
        return sa.func.json_type(self._at(document, path))

    def text(self, document: _Value, path: str) -> _Value:
        # As bytes, because every collation that MySQL and MariaDB share pads strings with spaces.
        unquoted = sa.func.json_unquote(self._at(document, path), type_=sa.Text)
        return sa.cast(unquoted, sa.LargeBinary)

    def text_value(self, value: str) -> _Value:
        return sa.cast(sa.literal(value, sa.Text), sa.LargeBinary)

    def fits(self, document: _Value, path: str, pieces: tuple[Piece, ...]) -> _Condition:
        # As characters again, because `_` would stand for a byte.
        text = _Utf8(self.text(document, path))
        pattern = "%".join("".join(map(_like, piece)) for piece in pieces)
        return sa.collate(text, "utf8mb4_bin").like(sa.literal(pattern, sa.Text), escape="!")

    def number(self, document: _Value, path: str) -> _Value:
        return sa.cast(self._at(document, path), mysql.DOUBLE)

    def booleans(self, document: _Value, path: str, values: list[Scalar]) -> _Condition:
        text = sa.func.json_unquote(self._at(document, path), type_=sa.Text)
        wanted = ["true" if value else "false" for value in values]
        return sa.and_(self.kind(document, path) == "BOOLEAN", text.in_(wanted))

    def contains(self, document: _Value, path: str, wanted: Scalar) -> _Condition:
        candidate = sa.literal(json.dumps(wanted, ensure_ascii=False), sa.Text)
        return sa.and_(
            self.is_type(document, path, "list"),
            sa.func.json_contains(document, candidate, path) == 1,
        )


class _Utf8(FunctionElement[str]):
    """Bytes of UTF-8 as text."""

    inherit_cache = True
    type = sa.Text()


@compiles(_Utf8, "mysql")
def _utf8_mysql(element: _Utf8, compiler: Any, **kw: Any) -> str:
    return f"CONVERT({compiler.process(element.clauses, **kw)} USING utf8mb4)"


def _like(character: str | None) -> str:
    """Write a character of a pattern for LIKE with the escape character `!`."""
    if character is None:
        return "_"
    return f"!{character}" if character in "!%_" else character


def _glob(character: str | None) -> str:
    if character is None:
        return "?"
    return f"[{character}]" if character in "*?[" else character


_ALIKE = "\ufffd\ufffe\uffff"


def _replace_noncharacters(
    text: _Value, pieces: tuple[Piece, ...]
) -> tuple[_Value, tuple[Piece, ...]]:
    """Replace what GLOB of SQLite takes for one character, in a text and in a pattern.

    Two characters that are not in the pattern take the places of U+FFFE and U+FFFF. A third one
    takes theirs, which changes no match, because only `?` and `*` match any of the three.
    """
    used = {character for piece in pieces for character in piece}
    if used.isdisjoint(_ALIKE):
        return text, pieces
    unused = (chr(code) for code in range(1, 1000) if chr(code) not in used)
    other, *replacements = islice(unused, 3)
    for old, new in zip((*replacements, *_ALIKE[1:]), (other, other, *replacements), strict=True):
        text = sa.func.replace(text, old, new)
    changed: dict[str | None, str] = dict(zip(_ALIKE[1:], replacements, strict=True))
    return text, tuple(
        tuple(changed.get(character, character) for character in piece) for piece in pieces
    )


def _json_path(path: Path) -> str:
    """Return the JSON path with each key quoted.

    No key needs escapes: see ``filters.check_key``.
    """
    return "$" + "".join(f'."{key}"' for key in path)
