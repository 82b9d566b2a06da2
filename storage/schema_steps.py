"""The steps of schema migrations. A step that is done already is skipped.

MySQL commits every statement that changes a table, so an upgrade that was interrupted has left
some of its steps done, perhaps one more than its process knew of. Repeating the migration resumes
it, because each step inspects the schema before it changes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from alembic import op

_log = logging.getLogger("lookalike.schema")
_PAUSE = 1.0  # seconds in which the queued requests are answered
_LOCKED = (1205, 1213)  # error codes of MySQL: lock wait timeout, deadlock


class Step(Protocol):
    """One change of the schema, or of rows because of it. ``str`` describes it."""

    def is_done(self, schema: sa.Inspector) -> bool:
        """Return whether the change has been made."""

    def make(self) -> None:
        """Make the change in one statement. Requires that it is not done."""


def run_steps(revision: str, steps: Sequence[Step]) -> None:
    """Make those changes of a migration that are not done yet, in order, and log each.

    A change that waits for a lock of another program, such as a dump, is given up and repeated
    every few seconds, because the requests of the service queue behind it.
    """
    level = logging.DEBUG if op.get_context().opts.get("is_new") else logging.INFO
    for number, step in enumerate(steps, 1):
        place = f"schema {revision}, step {number} of {len(steps)}"
        while True:
            try:
                if step.is_done(sa.inspect(op.get_bind())):
                    _log.log(level, "%s: %s (done already)", place, step)
                else:
                    _log.log(level, "%s: %s", place, step)
                    step.make()
                break
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "args", ())[:1] not in [(code,) for code in _LOCKED]:
                    raise
                _log.warning("%s: waiting for another program's lock on the table", place)
                time.sleep(_PAUSE)


class CreateTable:
    """Create a table. Indexes are steps of their own, because MySQL commits in between."""

    def __init__(self, name: str, *columns: sa.Column[Any] | sa.Constraint, **options: Any) -> None:
        self.name = name
        self.columns = columns
        self.options = options  # of the dialects, such as sqlite_autoincrement

    def __str__(self) -> str:
        return f"create the table {self.name}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return schema.has_table(self.name)

    def make(self) -> None:
        op.create_table(self.name, *self.columns, **self.options)


@dataclass(frozen=True)
class DropTable:
    name: str

    def __str__(self) -> str:
        return f"drop the table {self.name}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return not schema.has_table(self.name)

    def make(self) -> None:
        op.drop_table(self.name)


@dataclass(frozen=True)
class AddColumn:
    table: str
    column: sa.Column[Any]

    def __str__(self) -> str:
        return f"add the column {self.table}.{self.column.name}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return has_column(schema, self.table, self.column.name)

    def make(self) -> None:
        op.add_column(self.table, self.column)


@dataclass(frozen=True)
class DropColumn:
    table: str
    column: str

    def __str__(self) -> str:
        return f"drop the column {self.table}.{self.column}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return not has_column(schema, self.table, self.column)

    def make(self) -> None:
        op.drop_column(self.table, self.column)


@dataclass(frozen=True)
class CreateIndex:
    name: str
    table: str
    columns: tuple[str, ...]
    unique: bool = False

    def __str__(self) -> str:
        return f"create the index {self.name}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return has_index(schema, self.table, self.name)

    def make(self) -> None:
        op.create_index(self.name, self.table, list(self.columns), unique=self.unique)


@dataclass(frozen=True)
class DropIndex:
    name: str
    table: str

    def __str__(self) -> str:
        return f"drop the index {self.name}"

    def is_done(self, schema: sa.Inspector) -> bool:
        return not has_index(schema, self.table, self.name)

    def make(self) -> None:
        op.drop_index(self.name, self.table)


@dataclass(frozen=True)
class Execute:
    """Run a statement that may be repeated until the later step ``before`` is done."""

    description: str
    statement: str
    before: Step | None = None

    def __str__(self) -> str:
        return self.description

    def is_done(self, schema: sa.Inspector) -> bool:
        return self.before is not None and self.before.is_done(schema)

    def make(self) -> None:
        op.execute(self.statement)


def has_column(schema: sa.Inspector, table: str, column: str) -> bool:
    """Return whether the table has the column."""
    return any(each["name"] == column for each in schema.get_columns(table))


def has_index(schema: sa.Inspector, table: str, index: str) -> bool:
    """Return whether the table has the index."""
    return any(each["name"] == index for each in schema.get_indexes(table))
