"""Queues the embeddings of a model version that is being built, and removes retired versions."""

from __future__ import annotations

from uuid import UUID, uuid4

from app.logs import log
from app.services.encoder_files import encoder_key
from storage.protocols import Stores
from storage.records import ModelState

_BATCH = 1000


class Backfill:
    """The worker's part of a model change. One process at a time backfills a version."""

    def __init__(self, stores: Stores, lease: float) -> None:
        """``lease`` is the time in seconds for which a process reserves the backfill."""
        self._stores = stores
        self._lease = lease
        self._owner = f"backfill-{uuid4().hex}"
        self._after: dict[str, UUID] = {}  # the last master of each version's previous batch
        self._complete: set[str] = set()

    def run_batch(self) -> bool:
        """Process one batch of each version that is being built or retired.

        Returns whether there was anything to do. Raises StoreUnavailable.
        """
        models = self._stores.registry.list_models()
        self._complete &= {model.id for model in models}
        busy = False
        for model in models:
            if model.state is ModelState.BUILDING and model.id not in self._complete:
                busy = self._queue_embeddings(model.id) or busy
            elif model.state is ModelState.RETIRED:
                busy = self._remove_version(model.id) or busy
        return busy

    def _queue_embeddings(self, version: str) -> bool:
        """Queue a batch. A process that takes over from another begins again, which is harmless."""
        lease = f"backfill {version}"
        if not self._stores.metadata.acquire_lease(lease, self._owner, self._lease):
            return False
        last = self._stores.registry.backfill_embeddings(version, self._after.get(version), _BATCH)
        if last is None:
            self._complete.add(version)
            self._after.pop(version, None)
            self._stores.metadata.release_lease(lease, self._owner)
        else:
            self._after[version] = last
        return True

    def _remove_version(self, version: str) -> bool:
        """Remove the embedding rows first, so that no process indexes them; then the rest.

        One process at a time does it: a slower one must not remove what was built again meanwhile.
        """
        registry, metadata = self._stores.registry, self._stores.metadata
        lease = f"backfill {version}"
        if not metadata.acquire_lease(lease, self._owner, self._lease):
            return False
        left = registry.drain_retired(version, _BATCH)
        if left:
            return left > _BATCH  # the rest may be leased: no hurry
        if left is not None:
            self._stores.vectors.drop_version(version)
            self._stores.objects.delete(encoder_key(version))
            registry.forget_retired(version)
            log.info("model removed", version=version)
        metadata.release_lease(lease, self._owner)
        return True
