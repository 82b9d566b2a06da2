"""The model versions that this process has loaded, kept in step with the registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from app.errors import Unavailable
from app.logs import log
from models.embedder import Embedder
from models.weights_file import WeightsFile, WeightsInvalid
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import LOOK, ModelState

_LEASE = 15.0  # seconds for which a heartbeat counts
_HEARTBEATS = 3  # per lease


def weights_key(version: str) -> str:
    """Return the object store's key for the weights of a version."""
    return f"models/{version}/weights.safetensors"


@dataclass(frozen=True)
class GivenModel:
    """The model that the process was started with: the shipped weights or those of the settings."""

    embedder: Embedder
    weights: Path | None = None  # None: there is no file to share with the other processes
    chosen: bool = False  # whether the settings name it


class LoadedModels:
    """Loads every live version of the registry, and drops those that are no longer live."""

    def __init__(
        self, stores: Stores, load: Callable[[WeightsFile], Embedder], interval: float
    ) -> None:
        """``load`` builds the network for weights; ``interval`` is in seconds between refreshes."""
        self._stores = stores
        self._load = load
        self._interval = interval
        self._replica = uuid4().hex
        self._refreshing = threading.Lock()
        self._loaded: dict[str, Embedder] = {}
        self._broken: set[str] = set()
        self._last_heartbeat: tuple[float, list[str]] = (0.0, [])  # its time and content
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_refreshing, name="models", daemon=True)

    def start(self, given: GivenModel) -> None:
        """Load the live versions, and start the thread that refreshes them.

        If the registry has no active version yet, the given model becomes it. Raises
        StoreUnavailable.
        """
        version = given.embedder.model_version
        active = self._stores.registry.register_active(version, LOOK)
        if active == version:
            self._share_weights(given)
        elif given.chosen:
            log.warning(
                "LOOKALIKE_WEIGHTS is not the active model; `lookalike models` changes it",
                given=version,
                active=active,
            )
        self._loaded = {version: given.embedder}
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and remove this process from the registry."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            with suppress(StoreUnavailable):
                self._stores.registry.remove_replica(self._replica)

    def active_version(self, space: str = LOOK) -> str:
        """Read the active version of a space from the registry.

        Raises StoreUnavailable, and Unavailable if this process has not loaded it.
        """
        active = self._stores.registry.find_active(space)
        self.find_embedder(active)
        return active or ""

    def find_embedder(self, version: str | None) -> Embedder:
        """Return the network of a version. Raises Unavailable if it is not loaded."""
        embedder = self._loaded.get(version or "")
        if embedder is None:
            detail = (
                f"This process has not loaded the model version {version or '(none)'} yet."
                " Retry in a few seconds."
            )
            raise Unavailable("model-not-loaded", detail, 5)
        return embedder

    @property
    def live_versions(self) -> list[str]:
        """The loaded versions, the active one of `look` first, as of the last refresh."""
        return list(self._loaded)

    def _keep_refreshing(self) -> None:
        while not self._stopping.wait(min(self._interval, _LEASE / _HEARTBEATS)):
            try:
                self.refresh()
            except StoreUnavailable as error:
                log.warning("models not refreshed", store=error.store, reason=str(error))
            except Exception:  # the thread must survive every error
                log.exception("models not refreshed")

    def refresh(self) -> None:
        """Load new live versions, drop those that are retired, and send a heartbeat.

        Raises StoreUnavailable.
        """
        with self._refreshing:  # so that an older registry read never overwrites a newer one
            live = [
                model.id
                for model in self._stores.registry.list_models()
                if model.state is not ModelState.RETIRED
            ]
            loaded = {}
            for version in live:
                embedder = self._loaded.get(version) or self._load_version(version)
                if embedder is not None:
                    loaded[version] = embedder
            self._loaded = loaded  # replaced as a whole, because other threads read it
            self._broken &= set(live)
            self._send_heartbeat(list(loaded))

    def _load_version(self, version: str) -> Embedder | None:
        key = weights_key(version)
        try:
            weights = WeightsFile.parse(b"".join(self._stores.objects.read(key)), key)
            if weights.version != version:
                raise WeightsInvalid(f"the weights under {key} are those of {weights.version}")
            embedder = self._load(weights)
        except (ObjectMissing, WeightsInvalid) as error:
            if version not in self._broken:  # log it once, not at every refresh
                log.error("cannot load a model", version=version, reason=str(error))
                self._broken.add(version)
            return None
        log.info("model loaded", version=version)
        return embedder

    def _share_weights(self, given: GivenModel) -> None:
        """Store the weights for other processes, whose release may ship other weights."""
        if given.weights is None:
            return
        key = weights_key(given.embedder.model_version)
        try:
            self._stores.objects.stat(key)
        except ObjectMissing:
            size, name = given.weights.stat().st_size, given.weights.name
            with given.weights.open("rb") as file:
                self._stores.objects.put(key, file, size, "application/octet-stream", name)

    def _send_heartbeat(self, loaded: list[str]) -> None:
        """Record what is loaded, if that changed or the last heartbeat is too old.

        A failure is only logged: a database that cannot be written to can still be searched.
        """
        sent_at, sent = self._last_heartbeat
        if sent != loaded or time.monotonic() - sent_at > _LEASE / _HEARTBEATS / 2:
            self._last_heartbeat = (time.monotonic(), loaded)
            try:
                self._stores.registry.record_heartbeat(self._replica, loaded, _LEASE)
            except StoreUnavailable as error:
                log.warning("heartbeat not recorded", store=error.store, reason=str(error))
