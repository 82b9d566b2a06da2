"""Capture metadata: saving it for masters that were stored without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from storage.records import Attributes, Capture, Master


@dataclass(frozen=True)
class CaptureChange:
    """What was read from the file of ``master``, and its name and attributes as they should be."""

    master: Master  # as it was when the file was read
    capture: Capture
    name: str
    attributes: Attributes

    @property
    def is_new(self) -> bool:
        """Whether saving it alters what the vector stores keep."""
        stored = (self.master.capture, self.master.name, self.master.attributes)
        return stored != (self.capture, self.name, self.attributes)


class CaptureStore(Protocol):
    """The capture metadata of stored masters. Readers have numbers; a later one reads more."""

    def list_unread(self, reader: int, limit: int) -> list[Master]:
        """Return up to ``limit`` visible masters that no reader of that number or later has read.

        Those that an earlier reader has read come last.
        """

    def count_unread(self, reader: int) -> int:
        """Return the number of visible masters that no reader of that number or later has read."""

    def save_captures(self, reader: int, changes: Sequence[CaptureChange]) -> int:
        """Save what a reader found, and return the number of masters that were saved.

        A master that was changed or deleted since it was read is left out, and stays unread. If
        anything changes, or the master was never read before, its revision is raised by one and
        every embedding becomes `pending`, so that the vector stores get the new fields. All is one
        commit.
        """

    def forget_readers(self, reader: int, limit: int) -> int:
        """Make up to ``limit`` masters unread that the reader of that number has read.

        Their metadata stays until they are read again. Returns the number of masters.
        """
