"""The JSON functions of the databases, and their conditions on a value at a path of a document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from storage.filters import Path, Scalar, type_name
from storage.patterns import Piece

Condition = sa.ColumnElement[bool]
Value = sa.ColumnElement[Any]


def functions_of(dialect: str) -> JsonFunctions:
    """Return the functions of a database.

    ``dialect`` is SQLAlchemy's name of it: sqlite, or mysql, which includes MariaDB.
    """
    return Sqlite() if dialect == "sqlite" else MySql()


class JsonFunctions(Protocol):
    """The JSON functions of a database, and its names of the JSON types."""

    types: ClassVar[dict[str, tuple[str, ...]]]

    def kind(self, document: Value, path: str) -> Value: ...

    def text(self, document: Value, path: str) -> Value: ...

    def text_value(self, value: str) -> Value:
        """Return the value as it compares with ``text``."""
        return sa.literal(value)

    def number(self, document: Value, path: str) -> Value: ...

    def contains(self, document: Value, path: str, wanted: Scalar) -> Condition: ...

    def fits(self, text: Value, pieces: tuple[Piece, ...]) -> Condition:
        """Return the condition that a text, of a document or a column, matches a pattern."""

    def booleans(self, document: Value, path: str, values: list[Scalar]) -> Condition: ...

    def is_type(self, document: Value, path: str, type_: str) -> Condition:
        return self.kind(document, path).in_(self.types[type_])

    def among(self, document: Value, path: str, wanted: Iterable[Scalar], type_: str) -> Condition:
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


class Sqlite(JsonFunctions):
    types: ClassVar = {
        "number": ("integer", "real"),
        "string": ("text",),
        "boolean": ("true", "false"),
        "list": ("array",),
    }

    def kind(self, document: Value, path: str) -> Value:
        return sa.func.json_type(document, path)

    def text(self, document: Value, path: str) -> Value:
        return sa.func.json_extract(document, path)

    number = text

    def fits(self, text: Value, pieces: tuple[Piece, ...]) -> Condition:
        # GLOB instead of LIKE, which ignores the case of ASCII letters.
        text, pieces = _replace_noncharacters(text, pieces)
        pattern = "*".join("".join(map(_glob, piece)) for piece in pieces)
        return text.op("GLOB", is_comparison=True)(pattern)

    def booleans(self, document: Value, path: str, values: list[Scalar]) -> Condition:
        return self.kind(document, path).in_("true" if value else "false" for value in values)

    def contains(self, document: Value, path: str, wanted: Scalar) -> Condition:
        item = sa.func.json_each(document, path).table_valued("type", "value")
        if isinstance(wanted, bool):
            same: Condition = item.c.type == ("true" if wanted else "false")
        else:
            same = sa.and_(
                item.c.type.in_(self.types[type_name(wanted)]), item.c.value == sa.literal(wanted)
            )
        return sa.and_(
            self.is_type(document, path, "list"),
            sa.exists(sa.select(1).select_from(item).where(same)),
        )


class MySql(JsonFunctions):
    types: ClassVar = {
        "number": ("INTEGER", "UNSIGNED INTEGER", "DOUBLE", "DECIMAL"),
        "string": ("STRING",),
        "boolean": ("BOOLEAN",),
        "list": ("ARRAY",),
    }

    def _at(self, document: Value, path: str) -> Value:
        return sa.func.json_extract(document, path)

    def kind(self, document: Value, path: str) -> Value:
        return sa.func.json_type(self._at(document, path))

    def text(self, document: Value, path: str) -> Value:
        # As bytes, because every collation that MySQL and MariaDB share pads strings with spaces.
        unquoted = sa.func.json_unquote(self._at(document, path), type_=sa.Text)
        return sa.cast(unquoted, sa.LargeBinary)

    def text_value(self, value: str) -> Value:
        return sa.cast(sa.literal(value, sa.Text), sa.LargeBinary)

    def fits(self, text: Value, pieces: tuple[Piece, ...]) -> Condition:
        # As characters again, because `_` would stand for a byte.
        pattern = "%".join("".join(map(_like, piece)) for piece in pieces)
        return sa.collate(_Utf8(text), "utf8mb4_bin").like(sa.literal(pattern, sa.Text), escape="!")

    def start(self, text: Value, length: int) -> Value:
        """Return the first characters of a text, as ``text`` returns it."""
        return sa.cast(sa.func.left(_Utf8(text), length), sa.LargeBinary)

    def number(self, document: Value, path: str) -> Value:
        return sa.cast(self._at(document, path), mysql.DOUBLE)

    def booleans(self, document: Value, path: str, values: list[Scalar]) -> Condition:
        text = sa.func.json_unquote(self._at(document, path), type_=sa.Text)
        wanted = ["true" if value else "false" for value in values]
        return sa.and_(self.kind(document, path) == "BOOLEAN", text.in_(wanted))

    def contains(self, document: Value, path: str, wanted: Scalar) -> Condition:
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
    text: Value, pieces: tuple[Piece, ...]
) -> tuple[Value, tuple[Piece, ...]]:
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


def json_path(path: Path) -> str:
    """Return the JSON path with each key quoted.

    No key needs escapes: see ``filters.check_key``.
    """
    return "$" + "".join(f'."{key}"' for key in path)
