"""Lists the deletions that can be undone, and brings their masters back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.errors import NotFound
from app.services.collections import Collections
from storage.protocols import Deletion, MetadataStore

_BATCH = 200  # masters in one transaction
_EXAMPLES = 20  # conflicts that are named
_PATIENCE = 5.0  # seconds for a worker to finish with masters that it holds
_PAUSE = 0.05  # seconds between polls of them


@dataclass
class UndoOutcome:
    """What was done to the masters of a deletion."""

    total: int  # that were removed at the start
    done: int = 0  # masters that had their turn
    restored: int = 0
    conflicts: int = 0  # their bytes were uploaded again, so they stay deleted
    held: int = 0  # a worker was at them until the end
    attributes_restored: int = 0  # masters that were kept, and have their earlier attributes again
    examples: list[tuple[UUID, UUID]] = field(default_factory=list)  # with the masters there now


class Undo:
    """Undoes deletions. Every method may raise StoreUnavailable."""

    def __init__(
        self, metadata: MetadataStore, collections: Collections, wake_worker: Callable[[], None]
    ) -> None:
        """``wake_worker`` is called when restored masters are left to the worker, to index them."""
        self._metadata = metadata
        self._collections = collections
        self._wake_worker = wake_worker

    def list_deletions(self, collection_name: str | None, limit: int) -> list[Deletion]:
        """Return the newest deletions that can be undone; of all collections for None.

        Raises InvalidInput, NotFound.
        """
        collection_id = None
        if collection_name is not None:
            collection_id = self._collections.find_collection(collection_name).id
        return self._metadata.list_deletions(collection_id, limit)

    def undo_deletion(self, deletion_id: UUID) -> Iterator[UndoOutcome]:
        """Restore the masters of a deletion, and yield what is done after each batch.

        What is yielded as restored is acknowledged: it can be read, and is found once it is
        indexed. Raises NotFound if the deletion is unknown or its time is over.
        """
        if self._metadata.find_deletion(deletion_id) is None:
            detail = (
                f"There is no deletion {deletion_id} that can be undone. Its time is over, it was"
                " undone already, or its collection was deleted."
            )
            raise NotFound("deletion-not-found", detail)
        return self._restore(deletion_id, self._metadata.list_removed(deletion_id))

    def _restore(self, deletion_id: UUID, ids: list[UUID]) -> Iterator[UndoOutcome]:
        outcome, held = UndoOutcome(len(ids)), list[UUID]()
        # First, because a deletion is listed as long as any of its masters is removed.
        outcome.attributes_restored = self._metadata.restore_attributes(deletion_id)
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            held += self._restore_batch(deletion_id, batch, outcome)
            outcome.done += len(batch)
            yield outcome
        deadline = time.monotonic() + _PATIENCE
        while held and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            batch, held = held[:_BATCH], held[_BATCH:]
            held += self._restore_batch(deletion_id, batch, outcome)
        outcome.held = len(held)
        self._wake_worker()
        yield outcome

    def _restore_batch(
        self, deletion_id: UUID, ids: Sequence[UUID], outcome: UndoOutcome
    ) -> set[UUID]:
        """Restore masters, and return those that a worker holds."""
        restored = self._metadata.restore_masters(deletion_id, ids)
        outcome.restored += len(restored.masters)
        outcome.conflicts += len(restored.conflicts)
        room = _EXAMPLES - len(outcome.examples)
        outcome.examples += sorted(restored.conflicts.items())[:room]
        if restored.masters:
            self._wake_worker()
        return restored.held
