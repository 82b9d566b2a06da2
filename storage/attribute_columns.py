"""Keeps the attributes of masters as columns in memory, so that filters select rows quickly."""

from __future__ import annotations

import functools
import operator
import threading
from array import array
from bisect import bisect_left, bisect_right
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
    Like,
    Not,
    Or,
    Path,
    Range,
    Scalar,
    type_name,
)
from storage.patterns import fits_pattern

Mask = NDArray[np.bool_]
_Condition = Equals | In | Range | Like | Exists
# Appended to the path of a list, for the column of its elements. No attribute key is empty.
_ELEMENTS = ("",)
_SCALARS = ("string", "boolean", "number")
_ORDER = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


class AttributeColumns:
    """One column per attribute path. A filter is evaluated without holding up a writer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: dict[Path, _Column] = {}

    def add(self, row: int, attributes: dict[str, Any]) -> int:
        """Add the attributes of a new row, and return the number of values that it has.

        Row numbers are added in increasing order.
        """
        with self._lock:
            return self._add(row, (), attributes)

    def _add(self, row: int, path: Path, value: object) -> int:
        added = 1
        if path:
            self._column(path).add(row, value)
        if isinstance(value, dict):
            added += sum(self._add(row, (*path, key), item) for key, item in value.items())
        elif isinstance(value, list):
            for item in value:
                self._column(path + _ELEMENTS).add(row, item)
            added += len(value)
        return added

    def _column(self, path: Path) -> _Column:
        column = self._columns.get(path)
        if column is None:
            column = self._columns[path] = _Column()
        return column

    def extend(self, other: AttributeColumns, renumbered: NDArray[np.int64]) -> None:
        """Add the rows of other columns, which nobody writes to meanwhile, under new numbers.

        ``renumbered[old]`` is the new number of a row; -1 leaves the row out.
        """
        with self._lock:
            for path, column in other._columns.items():
                frozen = column.freeze()
                if (renumbered[frozen.rows] >= 0).any():
                    self._column(path).extend(frozen, renumbered)

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
            case Equals() | In() | Range() | Like() | Exists():
                return self._select_one(filter.path, filter, size)

    def _select_one(self, path: Path, condition: _Condition, size: int) -> Mask:
        mask: Mask = np.zeros(size, dtype=np.bool_)
        with self._lock:
            column = self._columns.get(path)
            frozen = None if column is None else column.freeze()
        if frozen is not None:
            rows = frozen.rows_where(condition)
            mask[rows[: np.searchsorted(rows, size)]] = True  # others were added meanwhile
        return mask


class _Column:
    """The values at one path, and the rows that have them.

    Each distinct value has a number, its code. Lists and objects are recorded only as present.
    """

    def __init__(self) -> None:
        self._rows = array("i")
        self._codes = array("i")
        self._values: list[Scalar | None] = []
        self._numbers = array("d")  # each value as a number, NaN for other types
        self._code_of: dict[tuple[str, Scalar], int] = {}
        self._frozen: _FrozenColumn | None = None

    def add(self, row: int, value: object) -> None:
        kind = type_name(value)
        self._frozen = None
        self._rows.append(row)
        self._codes.append(self._find_code(kind, value if kind in _SCALARS else None))  # type: ignore[arg-type]

    def _find_code(self, kind: str, value: Scalar | None) -> int:
        key = (kind, "" if value is None else value)
        code = self._code_of.get(key)
        if code is None:
            code = self._code_of[key] = len(self._values)
            self._values.append(value)
            self._numbers.append(float(value) if kind == "number" else float("nan"))  # type: ignore[arg-type]
        return code

    def extend(self, other: _FrozenColumn, renumbered: NDArray[np.int64]) -> None:
        """Add the rows of another column under new numbers, with the values that they use."""
        moved = renumbered[other.rows]
        kept = moved >= 0
        used, codes = np.unique(other.codes[kept], return_inverse=True)
        kinds = other.kinds()
        new = [self._find_code(kinds[code], other.values[code]) for code in used.tolist()]
        self._frozen = None
        self._rows.frombytes(moved[kept].astype(np.int32).tobytes())
        self._codes.frombytes(np.array(new, dtype=np.int32)[codes].tobytes())

    def freeze(self) -> _FrozenColumn:
        """Return the column as it is now; its copy is kept until the next change."""
        if self._frozen is None:
            self._frozen = _FrozenColumn(
                np.array(self._rows, dtype=np.int32),
                np.array(self._codes, dtype=np.int32),
                self._values.copy(),
                np.array(self._numbers),
                self._code_of,
            )
        return self._frozen


class _FrozenColumn:
    """A column at one moment, which any thread may read."""

    def __init__(
        self,
        rows: NDArray[np.int32],
        codes: NDArray[np.int32],
        values: list[Scalar | None],
        numbers: NDArray[np.float64],
        code_of: dict[tuple[str, Scalar], int],
    ) -> None:
        self.rows = rows
        self.codes = codes
        self.values = values
        self._numbers = numbers
        self._code_of = code_of  # it may have further values by now

    def kinds(self) -> list[str]:
        """Return the type of each value, by its code."""
        return [kind for kind, _ in list(self._code_of)[: len(self.values)]]

    def rows_where(self, condition: _Condition) -> NDArray[np.int32]:
        """Return the rows whose value meets the condition, in increasing order."""
        match condition:
            case Exists():
                return self.rows
            case Equals(_, value):
                wanted = self._code(value)
                return self.rows[self.codes == wanted] if wanted is not None else self.rows[:0]
            case In(_, values):
                flags = np.zeros(len(self.values), dtype=np.bool_)
                flags[[code for value in values if (code := self._code(value)) is not None]] = True
            case Like(_, pattern):
                flags = np.array(
                    [isinstance(each, str) and fits_pattern(pattern, each) for each in self.values],
                    dtype=np.bool_,
                )
            case Range(_, order, bound) if isinstance(bound, str):
                flags = self._in_text_range(order, bound)
            case Range(_, order, bound):
                flags = _ORDER[order](self._numbers, bound)
        return self.rows[flags[self.codes]]

    def _code(self, value: Scalar) -> int | None:
        code = self._code_of.get((type_name(value), value))
        return code if code is not None and code < len(self.values) else None

    def _in_text_range(self, order: str, bound: str) -> Mask:
        texts, ranks = self._sorted_texts
        place = (bisect_right if order in ("gt", "lte") else bisect_left)(texts, bound)
        if order in ("gt", "gte"):
            return ranks >= place
        return (ranks >= 0) & (ranks < place)

    @functools.cached_property
    def _sorted_texts(self) -> tuple[list[str], NDArray[np.int32]]:
        """The texts among the values in order, and the place of each value there; -1 for others."""
        texts = [(value, code) for code, value in enumerate(self.values) if isinstance(value, str)]
        texts.sort()
        ranks = np.full(len(self.values), -1, dtype=np.int32)
        ranks[[code for _, code in texts]] = np.arange(len(texts))
        return [text for text, _ in texts], ranks
