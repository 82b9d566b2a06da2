"""Translates the filter into a SQL condition on the columns of a master.

The condition is never NULL, so that NOT negates it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

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
from storage.json_sql import Condition, JsonFunctions, Value, functions_of, json_path
from storage.patterns import split_pattern
from storage.records import BUILT_IN_FIELDS, CAPTURE

_Columns = sa.sql.base.ReadOnlyColumnCollection[str, sa.Column[Any]]
_Comparison = Equals | In | Range | Like | Contains | Exists


def condition(filter: Filter, columns: _Columns, dialect: str) -> Condition:
    """Return the condition that a master matches the filter.

    ``columns`` are those of the masters' table, and ``dialect`` is SQLAlchemy's name of the
    database: sqlite, or mysql, which includes MariaDB.
    """
    return _condition(filter, columns, functions_of(dialect))


def _condition(filter: Filter, columns: _Columns, functions: JsonFunctions) -> Condition:
    match filter:
        case And(parts):
            return sa.and_(*(_condition(part, columns, functions) for part in parts))
        case Or(parts):
            return sa.or_(*(_condition(part, columns, functions) for part in parts))
        case Not(part):
            return sa.not_(_condition(part, columns, functions))
    own = _of_json(filter, columns.attributes, filter.path, functions)
    key, *rest = filter.path
    if key == CAPTURE:
        built_in = _of_json(filter, capture_document(columns), tuple(rest), functions)
    elif key in BUILT_IN_FIELDS:
        built_in = sa.false() if rest else _of_column(filter, columns[key], functions)
    else:
        return own
    return sa.case((lacks_attribute(key, columns, functions), built_in), else_=own)


def lacks_attribute(key: str, columns: _Columns, functions: JsonFunctions) -> Condition:
    """Return the condition that no attribute comes before the built-in field."""
    return functions.kind(columns.attributes, json_path((key,))).is_(None)


def capture_document(columns: _Columns) -> Value:
    """Return the capture metadata, as a document that is never NULL."""
    return sa.func.coalesce(columns.capture, sa.literal_column("'{}'"), type_=sa.Text)


def _of_column(filter: _Comparison, column: Value, functions: JsonFunctions) -> Condition:
    """Return the condition on a column, which has the same type in each row and no NULL."""
    type_ = "number" if isinstance(column.type, sa.Integer) else "string"
    match filter:
        case Equals(_, wanted):
            return column == wanted if type_name(wanted) == type_ else sa.false()
        case In(_, values):
            return column.in_([value for value in values if type_name(value) == type_])
        case Range(_, operator, bound):
            return _in_order(column, operator, bound) if type_name(bound) == type_ else sa.false()
        case Like(_, pattern):
            matches = functions.fits(column, split_pattern(pattern))
            return matches if type_ == "string" else sa.false()
        case Contains():
            return sa.false()
        case Exists():
            return sa.true()


def _of_json(
    filter: _Comparison, document: Value, path: Path, functions: JsonFunctions
) -> Condition:
    """Return the condition on the value at a path of a document."""
    place = json_path(path)
    match filter:
        case Equals(_, wanted):
            found = functions.among(document, place, (wanted,), type_name(wanted))
        case In(_, values):
            found = sa.or_(
                *(
                    functions.among(document, place, values, type_)
                    for type_ in ("boolean", "number", "string")
                )
            )
        case Range(_, operator, bound):
            limit: Scalar | Value = bound
            value = functions.number(document, place)
            if isinstance(bound, str):
                value, limit = functions.text(document, place), functions.text_value(bound)
            is_type = functions.is_type(document, place, type_name(bound))
            found = sa.and_(is_type, _in_order(value, operator, limit))
        case Like(_, pattern):
            matches = functions.fits(functions.text(document, place), split_pattern(pattern))
            found = sa.and_(functions.is_type(document, place, "string"), matches)
        case Contains(_, wanted):
            found = functions.contains(document, place, wanted)
        case Exists():
            found = functions.kind(document, place).is_not(None)
    return sa.func.coalesce(found, sa.false())


def _in_order(value: Value, operator: str, bound: Scalar | Value) -> Condition:
    return {
        "gt": value > bound,
        "gte": value >= bound,
        "lt": value < bound,
        "lte": value <= bound,
    }[operator]
