"""Capture metadata of masters in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from storage.protocols import CaptureChange
from storage.records import Master, MasterState
from tests.support.memory_stores.tables import MasterRow, OnTables, hold_the_lock


@hold_the_lock
class MemoryCaptures(OnTables):
    """Implements CaptureStore in memory."""

    def list_unread(self, reader: int, limit: int) -> list[Master]:
        rows = self._find_unread(reader)
        rows.sort(key=lambda row: (row.master.capture_reader, row.master.id))
        return [row.read() for row in rows[:limit]]

    def count_unread(self, reader: int) -> int:
        return len(self._find_unread(reader))

    def save_captures(self, reader: int, changes: Sequence[CaptureChange]) -> int:
        return sum(self._save(reader, change) for change in changes)

    def forget_readers(self, reader: int, limit: int) -> int:
        rows = [row for row in self._tables.masters.values() if row.master.capture_reader == reader]
        for row in rows[:limit]:
            row.change(capture_reader=0)
        return len(rows[:limit])

    def _find_unread(self, reader: int) -> list[MasterRow]:
        return [
            row
            for row in self._tables.masters.values()
            if row.master.capture_reader < reader and self._tables.is_visible(row)
        ]

    def _save(self, reader: int, change: CaptureChange) -> bool:
        row = self._tables.masters.get(change.master.id)
        if row is None or row.master.state is not MasterState.STORED:
            return False
        if row.master.revision != change.master.revision:
            return False
        row.change(capture=copy.deepcopy(change.capture), capture_reader=reader)
        if change.is_new:
            now = self._tables.now()
            attributes = copy.deepcopy(change.attributes)
            row.change(name=change.name, attributes=attributes, updated_at=now)
            row.change(revision=row.master.revision + 1)
            for embedding in self._tables.embeddings_of(row.master.id):
                embedding.queue(now)
        return True
