"""Checks whether the process can answer requests: its stores and its model."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from app.errors import Unavailable
from app.logs import log
from app.services.loaded_models import LoadedModels
from storage.errors import StoreUnavailable
from storage.protocols import MetadataStore, ObjectStore, Stores, VectorStore
from storage.records import LoadProgress

OK = "ok"
_KEPT = 1.0  # seconds for which a result is given again
_LIMIT = 3.0  # seconds after which a check that still runs has failed


class Health:
    """The readiness of one process.

    Each check runs in a thread of its own, once at a time, and its result is kept for a second. So
    any number of callers cost at most four threads, even while a store does not answer.
    """

    def __init__(
        self,
        stores: Stores,
        models: LoadedModels,
        *,
        warnings: Sequence[str] = (),
        kept: float = _KEPT,
    ) -> None:
        """``warnings`` were found at the start; ``kept`` is in seconds."""
        self.warnings = list(warnings)
        self._stores = stores
        self._models = models
        self._checks = {
            "metadata": _Check(partial(_ping, stores.metadata), kept),
            "objects": _Check(partial(_ping, stores.objects), kept),
            "vectors": _Check(partial(_ping, stores.vectors), kept),
            "model": _Check(models.active_version, kept),
        }

    async def check_readiness(self) -> dict[str, str]:
        """Check each store and the model. Each result is ``ok`` or the reason of the failure.

        The vectors are not ready before those of every active version are loaded.
        """
        results = await asyncio.gather(*(check.result() for check in self._checks.values()))
        checks = dict(zip(self._checks, results, strict=True))
        if checks["metadata"] != OK:  # the metadata database knows which model is active
            checks["model"] = "unknown while the metadata store does not answer"
        active = [each for each in self._models.active_versions if each in self.loading()]
        if checks["vectors"] == OK and active:
            checks["vectors"] = f"the vectors of {', '.join(active)} are being loaded"
        return checks

    def loading(self) -> dict[str, LoadProgress]:
        """Return the model versions whose vectors are still being read into memory."""
        return self._stores.vectors.loading()

    def last_active_version(self) -> str:
        """Return the version that was active at the last refresh, or an empty string."""
        return next(iter(self._models.live_versions), "")


def _ping(store: MetadataStore | ObjectStore | VectorStore) -> None:
    store.ping()


class _Check:
    """A check that runs at most once at a time, and whose last result is kept for a while."""

    def __init__(self, check: Callable[[], object], kept: float) -> None:
        self._check = check
        self._kept = kept
        self._lock = threading.Lock()
        self._run: Future[str] | None = None
        self._started = self._ended = 0.0  # seconds of the monotonic clock

    async def result(self) -> str:
        """Return a result that is recent enough, and wait for it no longer than the limit."""
        run = self._recent_run()
        if run.done():
            return run.result()
        left = self._started + _LIMIT - time.monotonic()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(run)), max(0.0, left))
        except TimeoutError:
            return f"no answer within {_LIMIT:g} seconds"

    def _recent_run(self) -> Future[str]:
        with self._lock:
            run, now = self._run, time.monotonic()
            if run is None or (run.done() and now >= self._ended + self._kept):
                run = self._run = Future()
                self._started = now
                # A daemon, because a stop must not wait for a store that does not answer.
                threading.Thread(target=self._carry_out, args=(run,), daemon=True).start()
            return run

    def _carry_out(self, run: Future[str]) -> None:
        try:
            self._check()
            result = OK
        except (StoreUnavailable, Unavailable) as error:
            result = str(error)
        except Exception:  # every caller waits for a result
            log.exception("a readiness check failed")
            result = "it failed; the log has the reason"
        self._ended = time.monotonic()
        run.set_result(result)
