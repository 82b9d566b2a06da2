"""Near-identical masters: what people decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

IdPair = tuple[UUID, UUID]  # two masters, the smaller id first


class Decision(StrEnum):
    """What somebody decided about two masters that look alike. Neither is shown again."""

    DIFFERENT = "different"  # they do not show one photograph
    KEEP = "keep"  # they do, and both are to stay


@dataclass(frozen=True)
class DecidedPair:
    """What somebody decided about two masters."""

    masters: IdPair
    decision: Decision
    decided_at: int  # milliseconds since 1970, UTC


class DecisionStore(Protocol):
    """What people decided about pairs of masters, which may be in different collections."""

    def save_decisions(self, ids: Sequence[UUID], decision: Decision) -> set[UUID]:
        """Decide about every two of the masters, and return those of ``ids`` that do not exist.

        All of it is one commit, and replaces earlier decisions. If any of the masters is not
        visible, nothing is saved. The changes of the scans of their collections are raised by one.
        """

    def remove_decisions(self, ids: Sequence[UUID]) -> int:
        """Remove what was decided about every two of the masters; return the number of pairs.

        If there are any, the changes of the scans of their collections are raised by one.
        """

    def list_decisions(
        self, collection_ids: Sequence[UUID], limit: int, after: IdPair | None
    ) -> list[DecidedPair]:
        """Return up to ``limit`` decisions, ordered by the smaller id and then by the other one.

        It selects those of two visible masters of which one or both are in the collections. The
        list begins behind the pair ``after``, or with the first if that is None.
        """
