"""Near-identical masters in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from uuid import UUID

from storage.protocols import DecidedPair, Decision
from storage.protocols.duplicates import IdPair
from tests.support.memory_stores.tables import OnTables, hold_the_lock


@hold_the_lock
class MemoryDecisions(OnTables):
    """Implements DecisionStore in memory."""

    def save_decisions(self, ids: Sequence[UUID], decision: Decision) -> set[UUID]:
        missing = {master_id for master_id in ids if self._tables.find_visible(master_id) is None}
        if not missing and len(set(ids)) > 1:
            for pair in combinations(sorted(set(ids)), 2):
                decided = DecidedPair(pair, decision, self._tables.now())
                self._tables.decisions[pair] = decided
            self._count_change(ids)
        return missing

    def remove_decisions(self, ids: Sequence[UUID]) -> int:
        pairs = [pair for pair in self._tables.decisions if set(pair) <= set(ids)]
        for pair in pairs:
            del self._tables.decisions[pair]
        if pairs:
            self._count_change(ids)
        return len(pairs)

    def list_decisions(
        self, collection_ids: Sequence[UUID], limit: int, after: IdPair | None
    ) -> list[DecidedPair]:
        def is_selected(pair: IdPair) -> bool:
            rows = [self._tables.masters[each] for each in pair]
            visible = all(self._tables.is_visible(row) for row in rows)
            return visible and any(row.master.collection_id in collection_ids for row in rows)

        pairs = sorted(filter(is_selected, self._tables.decisions))
        some = [pair for pair in pairs if after is None or pair > after]
        return [self._tables.decisions[pair] for pair in some[:limit]]

    def _count_change(self, ids: Sequence[UUID]) -> None:
        rows = [self._tables.masters.get(each) for each in ids]
        collections = {row.master.collection_id for row in rows if row is not None}
        self._tables.count_change(collections)
