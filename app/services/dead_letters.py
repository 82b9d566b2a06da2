"""Lists the embeddings that failed too often, and retries them."""

from __future__ import annotations

from collections.abc import Callable

from storage.protocols import MetadataStore
from storage.records import DeadLetter


class DeadLetters:
    """Embeddings that failed in LOOKALIKE_INDEX_ATTEMPTS attempts.

    Their masters are kept, but no search finds them. Every method may raise StoreUnavailable.
    """

    def __init__(self, metadata: MetadataStore, wake_worker: Callable[[], None]) -> None:
        self._metadata = metadata
        self._wake_worker = wake_worker

    def list_dead_letters(self, limit: int) -> tuple[list[DeadLetter], int]:
        """Return at most ``limit`` dead letters, oldest master first, and their total number."""
        return self._metadata.list_dead_letters(limit), self.count_dead_letters()

    def count_dead_letters(self) -> int:
        """Return the number of dead letters."""
        return self._metadata.count_dead_letters()

    def retry_dead_letters(self) -> int:
        """Queue all dead letters again, and return their number."""
        requeued = self._metadata.requeue_dead_letters()
        self._wake_worker()
        return requeued
