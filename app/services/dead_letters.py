"""Lists the embeddings that failed too often, and retries them."""

from __future__ import annotations

from collections.abc import Callable

from storage.protocols import MetadataStore
from storage.records import DeadLetter


class DeadLetters:
    """Embeddings that failed in LOOKALIKE_INDEX_ATTEMPTS attempts. Their masters are kept, but no search finds them."""

    def __init__(self, metadata: MetadataStore, wake_worker: Callable[[], None]) -> None:
        self._metadata = metadata
        self._wake_worker = wake_worker

    def list(self, limit: int) -> tuple[list[DeadLetter], int]:
        """Return at most ``limit`` of them, oldest master first, and how many there are."""
        return self._metadata.list_dead_letters(limit), self._metadata.count_dead_letters()

    def retry(self) -> int:
        """Retry all of them, and return their number."""
        revived = self._metadata.requeue_dead_letters()
        self._wake_worker()
        return revived
