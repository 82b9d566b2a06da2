"""The model versions this process has loaded: those that are live in the registry, kept up with as they come and go."""

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
from storage.records import ModelState

_LEASE = 15.0  # seconds for which a heartbeat holds
_BEATS = 3  # in that time


def weights_key(version: str) -> str:
    """Where the weights of a version lie in the object store, for every process to load."""
    return f"models/{version}/weights.safetensors"


@dataclass(frozen=True)
class GivenModel:
    """What the process was started with: the shipped weights, or those of the settings."""

    embedder: Embedder
    weights: Path | None = None  # None: there is no file to share with the other processes
    chosen: bool = False  # by the settings


class Models:
    def __init__(
        self, stores: Stores, load: Callable[[WeightsFile], Embedder], interval: float
    ) -> None:
        """``interval`` in seconds between two looks at the registry."""
        self._stores = stores
        self._load = load
        self._interval = interval
        self._replica = uuid4().hex
        self._refreshing = threading.Lock()
        self._loaded: dict[str, Embedder] = {}
        self._broken: set[str] = set()
        self._said: tuple[float, list[str]] = (0.0, [])  # time and content of the last heartbeat
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self, given: GivenModel) -> None:
        """Make the given model the active one where there is none, load what is live, and keep up. Raises StoreUnavailable."""
        version = given.embedder.model_version
        active = self._stores.registry.register_active(version)
        if active == version:
            self._share(given)
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
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            with suppress(StoreUnavailable):
                self._stores.registry.leave(self._replica)

    def active(self) -> str:
        """The active version, read anew. Raises Unavailable if this process has not loaded it."""
        active = self._stores.registry.active()
        self.embedder(active)
        return active or ""

    def embedder(self, version: str | None) -> Embedder:
        """Raises Unavailable if this process has not loaded it."""
        embedder = self._loaded.get(version or "")
        if embedder is None:
            raise Unavailable(
                "model-not-loaded",
                f"This process has not loaded the model version {version}. Try again.",
                5,
            )
        return embedder

    @property
    def live(self) -> list[str]:
        """The live versions this process has loaded, the active one first, as it last saw them."""
        return list(self._loaded)

    def _run(self) -> None:
        while not self._stopping.wait(min(self._interval, _LEASE / _BEATS)):
            try:
                self.refresh()
            except StoreUnavailable as error:
                log.warning("the models are not kept up with", store=error.store, reason=str(error))
            except Exception:  # the loop outlives whatever comes
                log.exception("the models are not kept up with")

    def refresh(self) -> None:
        """Load what has become live, let go of what no longer is, and say what is loaded. Raises StoreUnavailable."""
        with self._refreshing:  # an older look must not undo a newer one
            live = [
                model.id
                for model in self._stores.registry.models()
                if model.state is not ModelState.RETIRED
            ]
            loaded = {}
            for version in live:
                embedder = self._loaded.get(version) or self._loaded_anew(version)
                if embedder is not None:
                    loaded[version] = embedder
            self._loaded = loaded  # as one, for the threads that read it
            self._broken &= set(live)
            self._beat(list(loaded))

    def _loaded_anew(self, version: str) -> Embedder | None:
        key = weights_key(version)
        try:
            weights = WeightsFile.parse(b"".join(self._stores.objects.read(key)), key)
            if weights.version != version:
                raise WeightsInvalid(f"the weights under {key} are those of {weights.version}")
            embedder = self._load(weights)
        except (ObjectMissing, WeightsInvalid) as error:
            if version not in self._broken:  # once is enough
                log.error("a model cannot be loaded", version=version, reason=str(error))
                self._broken.add(version)
            return None
        log.info("model loaded", version=version)
        return embedder

    def _share(self, given: GivenModel) -> None:
        """Put the weights where every process finds them, a later release of this program with other weights, too."""
        if given.weights is None:
            return
        key = weights_key(given.embedder.model_version)
        try:
            self._stores.objects.stat(key)
        except ObjectMissing:
            with given.weights.open("rb") as file:
                self._stores.objects.put(
                    key,
                    file,
                    given.weights.stat().st_size,
                    "application/octet-stream",
                    given.weights.name,
                )

    def _beat(self, loaded: list[str]) -> None:
        """A database that can only be read is no reason not to search."""
        at, said = self._said
        if said != loaded or time.monotonic() - at > _LEASE / _BEATS / 2:
            self._said = (time.monotonic(), loaded)
            try:
                self._stores.registry.heartbeat(self._replica, loaded, _LEASE)
            except StoreUnavailable as error:
                log.warning("no heartbeat could be written", store=error.store, reason=str(error))
