"""Keeps the attributes of masters as columns in memory, so that filters select rows quickly."""

from __future__ import annotations

import functools
import operator
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.attribute_order import SortValues
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
from storage.patterns import make_matcher

Mask = NDArray[np.bool_]
_NO_ROWS = np.empty(0, dtype=np.int32)
_Condition = Equals | In | Range | Like | Exists
_Coded = str | bool | None  # None: a list or an object
# Appended to the path of a list, for the column of its elements. No attribute key is empty.
_ELEMENTS = ("",)
_ORDER = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


class AttributeColumns:
    """One column per attribute path. A filter is evaluated without holding up a writer."""

    def __init__(self, stored: StoredColumns | None = None) -> None:
        """``stored`` has columns of rows to which none is added; each is read when it is needed."""
        self._lock = threading.Lock()
        self._columns: dict[Path, _Column] = {}
        self._stored = stored
        self._read: dict[Path, FrozenColumn] = {}  # of those that are stored

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
            for path, frozen in other.freeze_all():
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

    def sort_values(self, path: Path, size: int) -> SortValues:
        """Return the values at a path by which the rows below ``size`` sort."""
        values = SortValues(size)
        frozen = self._freeze(path)
        if frozen is not None:
            known = frozen.number_rows < size  # others were added meanwhile
            values.set_numbers(frozen.number_rows[known], frozen.numbers[known])
            known = frozen.coded_rows < size
            values.set_others(frozen.coded_rows[known], frozen.codes[known], frozen.values)
        return values

    def freeze_all(self) -> list[tuple[Path, FrozenColumn]]:
        """Return all columns as they are now."""
        with self._lock:
            paths = {*self._columns, *(self._stored.paths() if self._stored else ())}
        found = ((path, self._freeze(path)) for path in paths)
        return [(path, frozen) for path, frozen in found if frozen is not None]

    def _freeze(self, path: Path) -> FrozenColumn | None:
        with self._lock:
            column = self._columns.get(path)
            if column is not None:
                return column.freeze()
            found = self._read.get(path)
            if found is None and self._stored is not None:
                found = self._stored.read(path)
                if found is not None:
                    self._read[path] = found
            return found

    def _select_one(self, path: Path, condition: _Condition, size: int) -> Mask:
        mask: Mask = np.zeros(size, dtype=np.bool_)
        frozen = self._freeze(path)
        if frozen is not None:
            rows = frozen.rows_where(condition)
            mask[rows[rows < size]] = True  # others were added meanwhile
        return mask


class StoredColumns(Protocol):
    """Columns that are kept elsewhere."""

    def paths(self) -> Iterable[Path]:
        """Return the paths that have a column."""

    def read(self, path: Path) -> FrozenColumn | None:
        """Return the column at a path."""


class _GrowingArray:
    """Numbers of one type. They are joined in one array, without a second copy, when it is read."""

    def __init__(self, typecode: str) -> None:
        self._joined = np.empty(0, dtype=typecode)
        self._new: array[Any] = array(typecode)

    def append(self, number: Any) -> None:
        self._new.append(number)

    def extend(self, numbers: NDArray[Any]) -> None:
        self._new.frombytes(numbers.astype(self._joined.dtype).tobytes())

    def join(self) -> NDArray[Any]:
        """Return all numbers, in an array that never changes."""
        if self._new:
            new = np.frombuffer(self._new, dtype=self._joined.dtype)
            self._joined = np.concatenate([self._joined, new])
            self._new = array(self._new.typecode)
        return self._joined


class _Column:
    """The values at one path, and the rows that have them.

    Numbers are kept as they are. Each other distinct value has a number, its code; lists and
    objects are recorded only as present, by one code.
    """

    def __init__(self) -> None:
        self._number_rows, self._numbers = _GrowingArray("i"), _GrowingArray("d")
        self._coded_rows, self._codes = _GrowingArray("i"), _GrowingArray("i")
        self._code_of: dict[_Coded, int] = {}
        self._frozen: FrozenColumn | None = None

    def add(self, row: int, value: object) -> None:
        self._frozen = None
        if type_name(value) == "number":
            self._number_rows.append(row)
            self._numbers.append(value)
        else:
            coded = value if isinstance(value, str | bool) else None
            self._coded_rows.append(row)
            self._codes.append(self._code_of.setdefault(coded, len(self._code_of)))

    def extend(self, other: FrozenColumn, renumbered: NDArray[np.int64]) -> None:
        """Add the rows of another column under new numbers, with the values that they use."""
        self._frozen = None
        moved = renumbered[other.number_rows]
        self._number_rows.extend(moved[moved >= 0])
        self._numbers.extend(other.numbers[moved >= 0])
        moved = renumbered[other.coded_rows]
        used, codes = np.unique(other.codes[moved >= 0], return_inverse=True)
        new = [
            self._code_of.setdefault(other.values[code], len(self._code_of))
            for code in used.tolist()
        ]
        self._coded_rows.extend(moved[moved >= 0])
        self._codes.extend(np.array(new, dtype=np.int32)[codes])

    def freeze(self) -> FrozenColumn:
        """Return the column as it is now; it is kept until the next change."""
        if self._frozen is None:
            self._frozen = FrozenColumn(
                self._number_rows.join(),
                self._numbers.join(),
                self._coded_rows.join(),
                self._codes.join(),
                self._code_of,
            )
        return self._frozen


class FrozenColumn:
    """A column at one moment, which any thread may read."""

    def __init__(
        self,
        number_rows: NDArray[np.int32],
        numbers: NDArray[np.float64],
        coded_rows: NDArray[np.int32],
        codes: NDArray[np.int32],
        code_of: dict[_Coded, int],
    ) -> None:
        self.number_rows = number_rows
        self.numbers = numbers
        self.coded_rows = coded_rows
        self.codes = codes
        self._code_of = code_of  # it may have further values by now
        self._size = len(code_of)

    @property
    def rows(self) -> NDArray[np.int32]:
        """The rows that have a value; the numbers come first."""
        return np.concatenate([self.number_rows, self.coded_rows])

    @functools.cached_property
    def values(self) -> list[_Coded]:
        """Each value that has a code, in the order of the codes."""
        return list(self._code_of)[: self._size]

    def rows_where(self, condition: _Condition) -> NDArray[np.int32]:
        """Return the rows whose value meets the condition."""
        match condition:
            case Exists():
                return self.rows
            case Equals(_, value):
                return self._rows_among([value])
            case In(_, values):
                return self._rows_among(values)
            case Like(_, pattern):
                fits = make_matcher(pattern)
                return self._coded_rows_where(
                    [isinstance(each, str) and fits(each) for each in self.values]
                )
            case Range(_, order, bound) if isinstance(bound, str):
                return self._coded_rows_where(self._in_text_range(order, bound))
            case Range(_, order, bound):
                flags: Mask = _ORDER[order](self.numbers, bound)
                return self.number_rows[flags]

    def _rows_among(self, values: Sequence[Scalar]) -> NDArray[np.int32]:
        numbers = [value for value in values if type_name(value) == "number"]
        if len(numbers) > 1:
            distinct, places = self._distinct_numbers
            of_numbers = self.number_rows[np.isin(distinct, numbers)[places]]
        else:
            of_numbers = self.number_rows[self.numbers == numbers[0]] if numbers else _NO_ROWS
        codes = [code for value in values if (code := self._code(value)) is not None]
        if len(codes) > 1:
            flags = np.zeros(self._size, dtype=np.bool_)
            flags[codes] = True
            of_codes = self.coded_rows[flags[self.codes]]
        else:
            of_codes = self.coded_rows[self.codes == codes[0]] if codes else _NO_ROWS
        return np.concatenate([of_numbers, of_codes])

    @functools.cached_property
    def _distinct_numbers(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """The distinct numbers, and the place of each number there."""
        distinct, places = np.unique(self.numbers, return_inverse=True)
        return distinct, places.astype(np.int32)

    def _coded_rows_where(self, flags: Sequence[bool] | Mask) -> NDArray[np.int32]:
        chosen: Mask = np.array(flags, dtype=np.bool_)[self.codes]
        rows: NDArray[np.int32] = self.coded_rows[chosen]
        return rows

    def _code(self, value: Scalar) -> int | None:
        if not isinstance(value, str | bool):
            return None
        code = self._code_of.get(value)
        return code if code is not None and code < self._size else None

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
