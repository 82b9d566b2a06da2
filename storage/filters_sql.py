"""The attribute filter as a SQL condition on the attributes column; never NULL, so that NOT turns it round."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from storage.filters import And, Contains, Equals, Exists, Filter, In, Not, Or, Path, Range, Scalar, type_name

_Condition = sa.ColumnElement[bool]
_SQLITE_TYPES = {
    "number": ("integer", "real"),
    "string": ("text",),
    "list": ("array",),
}


def condition(filter: Filter, attributes: sa.ColumnElement[object]) -> _Condition:
    match filter:
        case And(parts):
            return sa.and_(*(condition(part, attributes) for part in parts))
        case Or(parts):
            return sa.or_(*(condition(part, attributes) for part in parts))
        case Not(part):
            return sa.not_(condition(part, attributes))
    path = _json_path(filter.path)
    kind, value = sa.func.json_type(attributes, path), sa.func.json_extract(attributes, path)
    match filter:
        case Equals(_, wanted):
            found = _among(kind, value, (wanted,), type_name(wanted))
        case In(_, values):
            found = sa.or_(*(_among(kind, value, values, type_) for type_ in ("boolean", "number", "string")))
        case Range(_, operator, bound):
            order = {"gt": value > bound, "gte": value >= bound, "lt": value < bound, "lte": value <= bound}[operator]
            found = sa.and_(kind.in_(_SQLITE_TYPES[type_name(bound)]), order)
        case Contains(_, wanted):
            item = sa.func.json_each(attributes, path).table_valued("type", "value")
            inside = sa.exists(
                sa.select(1).select_from(item).where(_among(item.c.type, item.c.value, (wanted,), type_name(wanted)))
            )
            found = sa.and_(kind.in_(_SQLITE_TYPES["list"]), inside)
        case Exists():
            found = kind.is_not(None)
    return sa.func.coalesce(found, sa.false())


def _among(kind: sa.ColumnElement[str], value: sa.ColumnElement[object], wanted: Iterable[Scalar], type_: str) -> _Condition:
    """Whether the value is one of those wanted of this type; one list a type, since SQLite bounds an expression's depth."""
    values = [item for item in wanted if type_name(item) == type_]
    if type_ == "boolean":
        return kind.in_("true" if item else "false" for item in values)
    return sa.and_(kind.in_(_SQLITE_TYPES[type_]), value.in_(values))


def _json_path(path: Path) -> str:
    """Each key quoted; a key that could not be quoted is one that no attributes can have (storage.attributes)."""
    return "$" + "".join(f'."{key}"' for key in path)
