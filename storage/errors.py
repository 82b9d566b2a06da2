"""The errors that storage backends raise."""

from __future__ import annotations


class StoreError(Exception):
    """Root of what a store raises.

    - StoreError
      - StoreUnavailable   down, too slow or refusing; the same call may succeed later
      - CollectionExists   a live collection has that name
      - CollectionGone     the collection was deleted in between
      - MasterExists       another master of the collection has the same bytes
      - ObjectMissing      no object under that key
      - ModelConflict      the model version's state does not allow that; the message says which and what to do
    """


class StoreUnavailable(StoreError):
    def __init__(self, store: str, reason: str) -> None:
        super().__init__(f"the {store} store is unavailable: {reason}")
        self.store = store


class CollectionExists(StoreError):
    pass


class CollectionGone(StoreError):
    pass


class MasterExists(StoreError):
    pass


class ObjectMissing(StoreError):
    pass


class ModelConflict(StoreError):
    pass


class ModelNotReady(ModelConflict):
    """It will be, when what is on its way has come to an end."""


class ConfigurationError(Exception):
    """The settings cannot be served with; the message says which and what to do."""
