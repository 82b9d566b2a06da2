"""Whole decisions about near-identical masters, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from storage.protocols import DecidedPair
from storage.protocols.duplicates import IdPair
from storage.records import MasterState
from tests.support.memory_stores.tables import OnTables, hold_the_lock

_KEPT = (MasterState.STORED, MasterState.DAMAGED)


@hold_the_lock
class MemoryDecisionRecords(OnTables):
    """Implements DecisionRecordStore in memory."""

    def list_all_decisions(self, limit: int, after: IdPair | None) -> list[DecidedPair]:
        pairs = sorted(pair for pair in self._tables.decisions if after is None or pair > after)
        return [self._tables.decisions[pair] for pair in pairs[:limit]]

    def import_decisions(self, decisions: Sequence[DecidedPair]) -> int:
        new = {each.masters: each for each in decisions if self._is_wanted(each)}
        self._tables.decisions.update(new)
        self._count_changes(new)
        return len(new)

    def forget_decisions(self, pairs: Sequence[IdPair]) -> None:
        for pair in pairs:
            self._tables.decisions.pop(pair, None)
        self._count_changes(pairs)

    def _is_wanted(self, decided: DecidedPair) -> bool:
        rows = [self._tables.masters.get(each) for each in decided.masters]
        if any(row is None or row.master.state not in _KEPT for row in rows):
            return False
        present = self._tables.decisions.get(decided.masters)
        return present is None or present.decided_at < decided.decided_at

    def _count_changes(self, pairs: Iterable[IdPair]) -> None:
        rows = [self._tables.masters.get(each) for pair in pairs for each in pair]
        self._tables.count_change({row.master.collection_id for row in rows if row is not None})
