"""The embedding outbox in memory: pending embeddings, their lease holders and failures."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from storage.records import DeadLetter, IndexTask, MasterState
from tests.support.memory_stores.tables import (
    DEAD,
    INDEXED,
    KEPT,
    PENDING,
    EmbeddingRow,
    OnTables,
    hold_the_lock,
)

_MOST_FAILURE = 500  # characters of a failure that are kept


@hold_the_lock
class MemoryOutbox(OnTables):
    """Implements EmbeddingOutbox in memory."""

    def claim_embeddings(
        self, versions: Sequence[str], owner: str, limit: int, lease: float
    ) -> list[IndexTask]:
        tables = self._tables
        due = [
            row
            for row in tables.embeddings.values()
            if row.version in versions
            and row.state == PENDING
            and tables.past(row.run_after)
            and tables.is_free(row)
            and self._is_stored(row.master_id)
        ]
        due = sorted(due, key=lambda row: row.run_after)[:limit]
        for row in due:
            row.hold(owner, tables.from_now(lease))
        return [
            IndexTask(tables.masters[row.master_id].read(), row.version, row.attempts)
            for row in due
        ]

    def claim_embedding(self, master_id: UUID, version: str, owner: str, lease: float) -> bool:
        row = self._tables.embeddings.get((master_id, version))
        if row is None or row.state != PENDING:
            return False
        if row.owner != owner and not self._tables.is_free(row):
            return False
        row.hold(owner, self._tables.from_now(lease))
        return True

    def reserve_write(self, task: IndexTask, owner: str, lease: float) -> bool:
        row = self._tables.embeddings.get((task.master.id, task.model_version))
        if self._is_newest(task) and self._is_stored(task.master.id):
            if row is None or row.state != PENDING:
                return False
            row.hold(owner, self._tables.from_now(lease))
            return True
        if row is not None and row.owner == owner:
            row.release()
        return False

    def is_indexed(self, master_id: UUID, version: str) -> bool:
        row = self._tables.embeddings.get((master_id, version))
        return row is not None and row.state == INDEXED

    def mark_indexed(self, task: IndexTask, owner: str) -> bool:
        row = self._find_leased(task, owner)
        if row is None:
            self._requeue_overwritten(task)
            return False
        row.release()
        if not self._is_newest(task) or not self._is_stored(task.master.id):
            return False
        row.state, row.indexed_revision = INDEXED, task.master.revision
        row.attempts, row.failure = 0, ""
        return True

    def retry_embedding(
        self, task: IndexTask, owner: str, failure: str, delay: float | None
    ) -> None:
        row = self._find_leased(task, owner)
        if row is None:
            return
        row.release()
        row.attempts += 1
        row.failure = failure[:_MOST_FAILURE]
        if delay is None:
            row.state = DEAD
        else:
            row.run_after = self._tables.from_now(delay)

    def release_embedding(self, task: IndexTask, owner: str, delay: float) -> None:
        row = self._find_leased(task, owner)
        if row is not None:
            row.release()
            row.run_after = self._tables.from_now(delay)

    def requeue_embedding(
        self, master_id: UUID, version: str, indexed_revision: int | None
    ) -> bool:
        if not self._is_stored(master_id):
            return False
        row = self._tables.embeddings.get((master_id, version))
        if row is None and indexed_revision is None:
            self._tables.add_embedding(master_id, version)
            return True
        if row is None or row.state != INDEXED or row.indexed_revision != indexed_revision:
            return False
        row.queue(self._tables.now())
        return True

    def list_dead_letters(self, limit: int) -> list[DeadLetter]:
        masters = self._tables.masters
        dead = [
            row
            for row in self._tables.embeddings.values()
            if row.state == DEAD and masters[row.master_id].master.state in KEPT
        ]
        dead.sort(key=lambda row: row.master_id)
        return [
            DeadLetter(masters[row.master_id].read(), row.version, row.attempts, row.failure)
            for row in dead[:limit]
        ]

    def requeue_dead_letters(self) -> int:
        dead = [row for row in self._tables.embeddings.values() if row.state == DEAD]
        for row in dead:
            row.queue(self._tables.now())
        return len(dead)

    def count_pending_embeddings(self) -> int:
        return sum(row.state == PENDING for row in self._tables.embeddings.values())

    def count_dead_letters(self) -> int:
        return sum(row.state == DEAD for row in self._tables.embeddings.values())

    def _requeue_overwritten(self, task: IndexTask) -> None:
        row = self._tables.embeddings.get((task.master.id, task.model_version))
        if row is not None and row.state in (PENDING, INDEXED) and not self._is_newest(task):
            row.release()
            row.state, row.run_after = PENDING, self._tables.now()

    def _is_newest(self, task: IndexTask) -> bool:
        row = self._tables.masters.get(task.master.id)
        return row is not None and row.master.revision == task.master.revision

    def _is_stored(self, master_id: UUID) -> bool:
        row = self._tables.masters.get(master_id)
        return row is not None and row.master.state is MasterState.STORED

    def _find_leased(self, task: IndexTask, owner: str) -> EmbeddingRow | None:
        """Return the embedding of the task if ``owner`` holds its lease."""
        row = self._tables.embeddings.get((task.master.id, task.model_version))
        return row if row is not None and row.owner == owner else None
