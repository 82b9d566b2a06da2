"""The errors that storage backends raise."""

from __future__ import annotations

import errno


class StoreError(Exception):
    """Base class of the errors that a store raises.

    - StoreError
      - StoreUnavailable   the store is down, too slow or refuses; the same call may succeed later
        - StoreFull        the store has no space left
      - CollectionExists   a live collection has that name
      - CollectionGone     the collection was deleted in the meantime
      - MasterExists       another master of the collection has the same bytes
      - MasterChanged      the master has another revision than the caller expects
      - ObjectMissing      there is no object under that key
      - ModelConflict      the state of a model version forbids the call; the message says why and
                           what to do
        - ModelNotReady    the call will be allowed when work in progress is finished
    """


class StoreUnavailable(StoreError):
    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"the {store} store is unavailable: {reason}")
        self.store = store


class StoreFull(StoreUnavailable):
    pass


class CollectionExists(StoreError):
    pass


class CollectionGone(StoreError):
    pass


class MasterExists(StoreError):
    pass


class MasterChanged(StoreError):
    def __init__(self, revision: int) -> None:
        super().__init__(f"the master is at revision {revision}")
        self.revision = revision


class ObjectMissing(StoreError):
    pass


class ModelConflict(StoreError):
    pass


class ModelNotReady(ModelConflict):
    pass


class ConfigurationError(Exception):
    """The service cannot run with these settings; the message says why and what to do."""


def is_disk_full(error: OSError) -> bool:
    """Tell whether a disk, or the user's share of it, has no space left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
