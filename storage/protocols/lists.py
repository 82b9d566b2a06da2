"""Lists of masters: pages in any order, what filters can be built from, and numbers by month."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from storage.filters import Filter
from storage.list_records import MasterFields, Months, Page, Position
from storage.sorting import NEWEST_FIRST, Sort


class ListStore(Protocol):
    """Lists of the masters of a collection.

    A master is visible if it is stored in a live collection.
    """

    def list_masters(
        self,
        collection_id: UUID,
        filter: Filter | None,
        limit: int,
        after: Position | None,
        offset: int = 0,
        sort: Sort = NEWEST_FIRST,
    ) -> Page:
        """Return a page of up to ``limit`` visible masters, in the order of ``sort``.

        With ``filter`` None, all are selected. The page begins behind ``after``, a position in a
        list of the same order, or at the start if that is None, and skips ``offset`` more.
        ``Page.next_after`` continues the list: a master that does not change is on exactly one
        page, whatever others do meanwhile. ``Page.total`` counts all that are selected, on any
        page.
        """

    def count_masters(self, collection_id: UUID) -> int:
        """Return the number of visible masters."""

    def count_months(self, collection_id: UUID, filter: Filter | None) -> Months:
        """Return how many of the visible masters that match were taken in each month."""

    def list_fields(
        self, collection_id: UUID, limit: int, after: UUID | None
    ) -> list[MasterFields]:
        """Return what filters see of up to ``limit`` stored masters, newest first.

        The list begins after the id ``after``, or with the newest if that is None. The method does
        not check that the collection is live; the caller must know.
        """
