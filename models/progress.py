"""The progress callback that every long operation of this package takes."""

from __future__ import annotations

from typing import Protocol


class ProgressCallback(Protocol):
    """Called after each step of a stage, for example to move a progress bar."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that ``done`` of the ``total`` steps of ``stage`` are complete.

        An exception that it raises stops the operation.
        """


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Discard the report: the default where no progress is shown."""
