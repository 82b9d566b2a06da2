"""Carries out what was deleted, or never finished: the rows say what, the vector store and the bucket follow."""

from __future__ import annotations

from collections.abc import Callable

from storage.protocols import Master, Stores

_BATCH = 200


class Deletion:
    def __init__(self, stores: Stores, lease: float) -> None:
        self._stores = stores
        self._lease = lease

    def step(self, owner: str, stopping: Callable[[], bool] = lambda: False) -> bool:
        """One round of abandoned uploads, deleted collections and deleted masters; whether there was anything to do."""
        metadata = self._stores.metadata
        busy = metadata.expire_pending() > 0
        busy = metadata.drain_collections(_BATCH) > 0 or busy
        for master in metadata.claim_deleting(owner, _BATCH, self._lease):
            if stopping():
                return True
            self._remove(master, owner)
            busy = True
        return busy

    def _remove(self, master: Master, owner: str) -> None:
        """Vector, object, row, in that order: what is left after a crash is still known to the truth."""
        for version in self._stores.vectors.versions():
            self._stores.vectors.delete(version, [master.id])
        self._stores.objects.delete(master.object_key)
        self._stores.metadata.forget_master(master.id, owner)
