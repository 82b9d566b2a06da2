"""Removes the vectors and bytes of deleted masters: the worker's part of a deletion."""

from __future__ import annotations

from collections.abc import Callable

from app.logs import log
from storage.errors import StoreUnavailable
from storage.protocols import Stores
from storage.records import Master

_BATCH = 200
_MAX_FAILURES = 3  # per round; more mean that the store is down, not that one master is stuck
BACKUP_LEASE = "backup"  # while a backup holds it, no object is removed; deletions wait for it


class Deletion:
    """Carries out deletions that are acknowledged, and cleans up uploads that never finished."""

    def __init__(
        self, stores: Stores, lease: float, remove_object: Callable[[str], object] | None = None
    ) -> None:
        """``lease`` is the time in seconds for which a process reserves the masters it removes.

        ``remove_object`` is called with the key of each object; the default deletes it.
        """
        self._stores = stores
        self._lease = lease
        self._remove_object = remove_object

    def remove_deleted(self, owner: str, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Run one round: expired uploads, deleted collections, then up to 200 deleted masters.

        A deletion that can be undone comes in between: the vectors of its masters are removed at
        once, and their bytes and rows when its time is over. ``owner`` holds the leases. Once
        ``stopping`` returns True, the round ends after the master in hand. Returns whether there
        was anything to do. Raises StoreUnavailable when several masters of a round fail; a single
        one is skipped until its lease expires.
        """
        metadata = self._stores.metadata
        busy = metadata.expire_reservations() > 0
        busy = metadata.drain_collections(_BATCH) > 0 or busy
        busy = metadata.expire_deletions(_BATCH) > 0 or busy
        busy = self._remove_vectors(owner) or busy
        if metadata.is_leased(BACKUP_LEASE):
            return busy
        failures = 0
        for master in metadata.claim_deleting(owner, _BATCH, self._lease):
            if stopping():
                return True
            try:
                self._remove_master(master, owner)
            except StoreUnavailable as error:
                failures += 1
                if failures == _MAX_FAILURES:
                    raise
                log.warning("deletion postponed", master=str(master.id), reason=str(error))
            busy = True
        return busy

    def _remove_vectors(self, owner: str) -> bool:
        """Remove the vectors of masters whose deletion can be undone."""
        removed = self._stores.metadata.claim_removed(owner, _BATCH, self._lease)
        if not removed:
            return False
        for version in self._stores.vectors.versions():
            self._stores.vectors.delete(version, removed)
        self._stores.metadata.settle_removed(removed, owner)
        return True

    def _remove_master(self, master: Master, owner: str) -> None:
        """Remove vectors, object and row, in this order.

        The row goes last, so that after a crash the metadata database still names what is left.
        """
        for version in self._stores.vectors.versions():
            self._stores.vectors.delete(version, [master.id])
        remove_object = self._remove_object or self._stores.objects.delete
        remove_object(master.object_key)
        self._stores.metadata.forget_master(master.id, owner)
