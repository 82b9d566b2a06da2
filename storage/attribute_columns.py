"""Keeps the attributes of masters as columns in memory, so that filters select rows quickly."""

from __future__ import annotations

import functools
import operator
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.filters import (
    And,
    Contains,
    Equals,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Path,
    Range,
    Scalar,
    in_order,
    type_name,
)

Mask = NDArray[np.bool_]
_Condition = Equals | In | Range | Exists
# Appended to the path of a list, for the column of its elements. No attribute key is empty.
_ELEMENTS = ("",)


class AttributeColumns:
    """One column per attribute path. Not thread-safe; the matrix that owns it holds a lock."""

    def __init__(self) -> None:
        self._columns: dict[Path, _Column] = {}

    def add(self, row: int, attributes: dict[str, Any]) -> None:
        """Add the attributes of a new row; row numbers are added in increasing order."""
        self._add(row, (), attributes)

    def _add(self, row: int, path: Path, value: object) -> None:
        if path:
            self._column(path).add(row, value)
        if isinstance(value, dict):
            for key, item in value.items():
                self._add(row, (*path, key), item)
        elif isinstance(value, list):
            for item in value:
                self._column(path + _ELEMENTS).add(row, item)

    def _column(self, path: Path) -> _Column:
        column = self._columns.get(path)
        if column is None:
            column = self._columns[path] = _Column()
        return column

    def renumber(self, renumbered: NDArray[np.int64]) -> None:
        """Move every entry to its new row.

        ``renumbered[old]`` is the new number of a row; -1 drops the row.
        """
        for path, column in list(self._columns.items()):
            column.renumber(renumbered)
            if not column.rows:
                del self._columns[path]

    def select(self, filter: Filter, size: int) -> Mask:
        """Return a mask ``(size,) bool`` of the rows whose attributes match the filter."""
        match filter:
            case And(parts):
                return functools.reduce(operator.and_, (self.select(part, size) for part in parts))
            case Or(parts):
                return functools.reduce(operator.or_, (self.select(part, size) for part in parts))
            case Not(part):
                return ~self.select(part, size)
            case Contains(path, value):
                return self._select_one(path + _ELEMENTS, Equals(path, value), size)
            case Equals() | In() | Range() | Exists():
                return self._select_one(filter.path, filter, size)

    def _select_one(self, path: Path, condition: _Condition, size: int) -> Mask:
        mask: Mask = np.zeros(size, dtype=np.bool_)
        column = self._columns.get(path)
        if column is not None:
            mask[column.rows_where(condition)] = True
        return mask


class _Column:
    """The values at one path, and the rows that have them.

    Each distinct value has a number, its code. Lists and objects are recorded only as present.
    """

    def __init__(self) -> None:
        self.rows = array("i")
        self._codes = array("i")
        self._values: list[object] = []
        self._numbers = array("d")  # each value as a number, NaN for other types
        self._code_of: dict[tuple[str, Scalar], int] = {}

    def add(self, row: int, value: object) -> None:
        kind = type_name(value)
        scalar: Scalar = value if isinstance(value, str | bool | int | float) else ""
        code = self._code_of.get((kind, scalar))
        if code is None:
            code = self._code_of[kind, scalar] = len(self._values)
            self._values.append(value if kind not in ("list", "object") else None)
            self._numbers.append(float(scalar) if kind == "number" else float("nan"))
        self.rows.append(row)
        self._codes.append(code)

    def renumber(self, renumbered: NDArray[np.int64]) -> None:
        """Move to new rows, and forget dropped rows and the values that only they had."""
        moved = renumbered[np.frombuffer(self.rows, dtype=np.int32)]
        kept = moved >= 0
        codes = np.frombuffer(self._codes, dtype=np.int32)[kept]
        used, new_codes = np.unique(codes, return_inverse=True)
        keys = list(self._code_of)
        self._values = [self._values[code] for code in used]
        self._numbers = array("d", np.frombuffer(self._numbers)[used].tobytes())
        self._code_of = {keys[code]: new for new, code in enumerate(used)}
        self.rows = array("i", moved[kept].astype(np.int32).tobytes())
        self._codes = array("i", new_codes.astype(np.int32).tobytes())

    def rows_where(self, condition: _Condition) -> NDArray[np.int32]:
        """Return the rows whose value meets the condition."""
        rows = np.array(self.rows, dtype=np.int32)
        if isinstance(condition, Exists):
            return rows
        codes = np.frombuffer(self._codes, dtype=np.int32)
        match condition:
            case Equals(_, value):
                wanted = self._code(value)
                return rows[codes == wanted] if wanted is not None else rows[:0]
            case In(_, values):
                among = [code for value in values if (code := self._code(value)) is not None]
                return rows[self._flags(among)[codes]]
            case Range(_, order, bound):
                return rows[self._in_range(order, bound)[codes]]

    def _code(self, value: Scalar) -> int | None:
        return self._code_of.get((type_name(value), value))

    def _flags(self, codes: list[int]) -> Mask:
        flags = np.zeros(len(self._values), dtype=np.bool_)
        flags[codes] = True
        return flags

    def _in_range(self, order: str, bound: str | int | float) -> Mask:
        if isinstance(bound, str):
            values = enumerate(self._values)
            return self._flags([code for code, value in values if in_order(value, order, bound)])
        numbers = np.array(self._numbers)
        match order:
            case "gt":
                return numbers > bound
            case "gte":
                return numbers >= bound
            case "lt":
                return numbers < bound
            case _:
                return numbers <= bound
