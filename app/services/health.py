"""Checks whether the process can answer requests: its stores and its model."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import Unavailable
from app.services.loaded_models import Models
from storage.errors import StoreUnavailable
from storage.protocols import Stores

OK = "ok"


class Health:
    """The readiness of one process."""

    def __init__(self, stores: Stores, models: Models) -> None:
        self._stores = stores
        self._models = models

    def check(self) -> dict[str, str]:
        """Check each store and the model: ``ok``, or the reason why it does not work."""
        checks = {
            "metadata": _outcome(self._stores.metadata.ping),
            "objects": _outcome(self._stores.objects.ping),
            "vectors": _outcome(self._stores.vectors.ping),
        }
        if checks["metadata"] == OK:  # the metadata database says which model is active
            checks["model"] = _outcome(self._models.active)
        else:
            checks["model"] = "unknown while the metadata store does not answer"
        return checks

    def model_version(self) -> str:
        """Return the version that this process last saw as the active one; empty before the first."""
        return next(iter(self._models.live), "")


def _outcome(probe: Callable[[], object]) -> str:
    try:
        probe()
    except (StoreUnavailable, Unavailable) as error:
        return str(error)
    return OK
