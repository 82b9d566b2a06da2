"""Whole decisions about near-identical masters, to copy them and to write the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from storage.protocols.duplicates import DecidedPair, IdPair


class DecisionRecordStore(Protocol):
    """Decisions as they are, also those about masters that are not visible."""

    def list_all_decisions(self, limit: int, after: IdPair | None) -> list[DecidedPair]:
        """Return up to ``limit`` decisions, ordered by the smaller id and then by the other one.

        The list begins behind the pair ``after``, or with the first if that is None.
        """

    def import_decisions(self, decisions: Sequence[DecidedPair]) -> int:
        """Save decisions with their times in one commit, and return how many were saved.

        A decision is left out unless both masters are stored or damaged, and if there is one of the
        same pair and time, or of a later time. The changes of the scans of the collections are
        raised by one if any was saved.
        """

    def forget_decisions(self, pairs: Sequence[IdPair]) -> None:
        """Remove what was decided about these pairs, in one commit.

        The changes of the scans of their collections are raised by one if there is any pair.
        """
