"""Carries out what was deleted, or never finished: the rows say what, the vector store and the bucket follow."""

from __future__ import annotations

from collections.abc import Callable

from app.logs import log
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from storage.records import Master

_BATCH = 200
_FAILURES = 3  # in one round; then it is the store
BACKUP_LEASE = "backup"  # while somebody holds it, no object is removed; what is deleted stays deleted and waits


class Deletion:
    def __init__(self, stores: Stores, lease: float) -> None:
        self._stores = stores
        self._lease = lease

    def step(self, owner: str, stopping: Callable[[], bool] = lambda: False) -> bool:
        """One round of abandoned uploads, deleted collections and deleted masters; whether there was anything to do."""
        metadata = self._stores.metadata
        busy = metadata.expire_reservations() > 0
        busy = metadata.drain_collections(_BATCH) > 0 or busy
        if metadata.is_leased(BACKUP_LEASE):
            return busy
        failures = 0
        for master in metadata.claim_deleting(owner, _BATCH, self._lease):
            if stopping():
                return True
            try:
                self._remove(master, owner)
            except (
                StoreUnavailable
            ) as error:  # this one again when its lease has run out; the others now
                failures += 1
                if failures == _FAILURES:
                    raise
                log.warning("a deletion is put off", master=str(master.id), reason=str(error))
            busy = True
        return busy

    def _remove(self, master: Master, owner: str) -> None:
        """Vector, object, row, in that order: what is left after a crash is still known to the truth."""
        for version in self._stores.vectors.versions():
            self._stores.vectors.delete(version, [master.id])
        self._stores.objects.delete(master.object_key)
        self._stores.metadata.forget_master(master.id, owner)
