"""Owns what the command line shows: consoles, progress bars, tables, errors and exit codes."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from storage.unicode_text import UNSAFE

_STAGE_LINE_INTERVAL = 30  # seconds between two lines where no progress bar can be drawn


def show_printable(text: str, *, lines: bool = False) -> str:
    """Replace what is unsafe to show: names of uploaded files, and answers, can contain any.

    ``lines`` keeps line breaks and tabs.
    """
    return UNSAFE.sub(
        lambda found: found[0] if lines and found[0] in "\n\t" else "\N{REPLACEMENT CHARACTER}",
        text,
    )


class _PrintableConsole(Console):
    """A console on which no text can move the cursor or change the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string of ``print`` or of a table's cell."""
        return super().render_str(show_printable(text, lines=True), **options)


out = _PrintableConsole(highlight=False, markup=False, soft_wrap=True)
err = _PrintableConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)


class ExitCode(IntEnum):
    """What a command returns to the shell. A command that returns None ends with OK."""

    OK = 0
    FINDINGS = 1  # something was found, or some of the items failed
    CANNOT_CONTINUE = 2
    WOULD_REMOVE = 3  # stopped before it removed more than a small share without being told to
    INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot continue. The message is shown as it is, so it says what to do next."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an expected error to standard error and exit with its code.

    A broken pipe and errors that nobody expected pass through.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        err.print(" ".join(["Interrupted.", *map(str, interrupt.args)]))
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except Exception as error:
        messages = _describe_error(error)
        if not messages:
            raise
        for message in messages:
            err.print(f"Error: {message}", style="red")
        raise SystemExit(_exit_code_of(error)) from None


@contextmanager
def on_interrupt(hint: str) -> Iterator[None]:
    """Add ``hint`` to the message that Ctrl-C prints, such as how to resume the work."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(hint) from None


def _exit_code_of(error: Exception) -> ExitCode:
    if isinstance(error, OSError | CommandError):
        return ExitCode.CANNOT_CONTINUE
    from app.services.mirroring import RemovalRefused

    refused = isinstance(error, RemovalRefused)
    return ExitCode.WOULD_REMOVE if refused else ExitCode.CANNOT_CONTINUE


def _describe_error(error: Exception) -> list[str]:
    """Return the lines to show, or none if the error is unexpected."""
    if isinstance(error, OSError):
        return [] if error.errno == errno.EPIPE else [_describe_os_error(error)]
    if isinstance(error, CommandError):
        return [str(error)]
    # Only commands that have imported these modules already can get here with one of their errors.
    from pydantic import ValidationError

    from app.http.security import InsecureSettings
    from app.services.catalogue import CatalogueRefused
    from app.services.mirroring import CopyRefused
    from app.services.recovery_collections import RecoveryRefused
    from models.errors import EncoderInvalid, EngineMissing
    from models.labelled_images import UnusableData
    from storage.errors import ConfigurationError, StoreUnavailable

    if isinstance(error, ValidationError):
        return [
            f"LOOKALIKE_{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors()
        ]
    expected = (
        CatalogueRefused,
        ConfigurationError,
        CopyRefused,
        EncoderInvalid,
        EngineMissing,
        InsecureSettings,
        RecoveryRefused,
        StoreUnavailable,
        UnusableData,
    )
    return [str(error)] if isinstance(error, expected) else []


def _describe_os_error(error: OSError) -> str:
    if error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return error.strerror or str(error)


def print_json(value: object, indent: int | None = 2) -> None:
    """Print JSON; characters that a terminal might obey are escaped, which keeps their meaning."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    escaped = UNSAFE.sub(
        lambda found: "\n" if found[0] == "\n" else json.dumps(found[0])[1:-1], text
    )
    sys.stdout.write(escaped + "\n")


def make_table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """Return a borderless table. The columns named in ``right`` are aligned to the right."""
    table = Table(box=None, header_style="bold", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", vertical="top")
    return table


class RateColumn(ProgressColumn):
    """Items per second over the last 30 seconds."""

    def render(self, task: Task) -> Text:
        if task.speed is None:
            return Text("")
        return Text(f"{task.speed:.{1 if task.speed < 10 else 0}f}/s")


def progress_bar() -> Progress:
    """Return a bar on standard error: items done and in total, rate, time elapsed and remaining."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )


class _Stages:
    """Draws one progress bar per stage; the ``advance`` callback of ``models``.

    Prints a line every 30 seconds and at the end of each stage where standard error is no terminal.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._progress.console.is_terminal:
            self._print_line(stage, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage.capitalize(), total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def _print_line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last_line > _STAGE_LINE_INTERVAL:
            self._last_line = now
            err.print(f"{stage}: {done} of {total}")


@contextmanager
def show_stages() -> Iterator[_Stages]:
    """Yield a callback ``(stage, done, total)`` that shows the progress of each stage."""
    with progress_bar() as progress:
        yield _Stages(progress)


def print_skipped(broken: list[tuple[Any, str]]) -> None:
    for path, reason in broken:
        err.print(f"skipped {path}: {reason}", style="yellow")
