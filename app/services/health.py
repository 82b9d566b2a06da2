"""Checks whether the process can answer requests: its stores and its model."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import Unavailable
from app.services.loaded_models import LoadedModels
from storage.errors import StoreUnavailable
from storage.protocols import Stores

OK = "ok"


class Health:
    """The readiness of one process."""

    def __init__(self, stores: Stores, models: LoadedModels) -> None:
        self._stores = stores
        self._models = models

    def check_readiness(self) -> dict[str, str]:
        """Check each store and the model. Each result is ``ok`` or the reason of the failure."""
        checks = {
            "metadata": _run_check(self._stores.metadata.ping),
            "objects": _run_check(self._stores.objects.ping),
            "vectors": _run_check(self._stores.vectors.ping),
        }
        if checks["metadata"] == OK:  # the metadata database knows which model is active
            checks["model"] = _run_check(self._models.active_version)
        else:
            checks["model"] = "unknown while the metadata store does not answer"
        return checks

    def last_active_version(self) -> str:
        """Return the version that was active at the last refresh, or an empty string."""
        return next(iter(self._models.live_versions), "")


def _run_check(check: Callable[[], object]) -> str:
    try:
        check()
    except (StoreUnavailable, Unavailable) as error:
        return str(error)
    return OK
