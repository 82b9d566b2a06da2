"""The model versions that this process has loaded, kept in step with the registry."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import uuid4

from app.errors import InvalidInput, Unavailable
from app.given_model import GivenModel
from app.logs import log
from app.services.encoder_files import EncoderFiles, remove_stale_copies
from models.embedder import Embedder, Encoder
from models.errors import EncoderInvalid
from storage.errors import ObjectMissing, StoreUnavailable
from storage.protocols import Stores
from storage.records import LOOK, ModelState, ModelVersion

_LEASE = 15.0  # seconds for which a heartbeat counts
_HEARTBEATS = 3  # per lease
_SPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class LoadedModels:
    """Loads every live version of the registry, and drops those that are no longer live."""

    def __init__(
        self, stores: Stores, load: Callable[[Encoder], Embedder], interval: float
    ) -> None:
        """``load`` builds an encoder's networks; ``interval`` is in seconds between refreshes."""
        self._stores = stores
        self._files = EncoderFiles(stores.objects)
        self._load = load
        self._interval = interval
        self._replica = uuid4().hex
        self._refreshing = threading.Lock()
        self._loaded: dict[str, Embedder] = {}
        self._live: list[ModelVersion] = []  # the versions in _loaded, as of the last refresh
        self._broken: set[str] = set()
        self._postponed = False  # whether the last refresh left out versions of other spaces
        self._last_heartbeat: tuple[float, list[str]] = (0.0, [])  # its time and content
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_refreshing, name="models", daemon=True)

    def start(self, given: GivenModel) -> None:
        """Load the live versions of `look`, and start the thread that loads all others.

        If the registry has no active version yet, the given model becomes it. Raises
        StoreUnavailable.
        """
        remove_stale_copies()
        version = given.embedder.model_version
        active = self._stores.registry.register_active(version, LOOK)
        if active == version:
            self._share_file(given)
        elif given.chosen:
            log.warning(
                "LOOKALIKE_WEIGHTS is not the active model; `lookalike models` changes it",
                given=version,
                active=active,
            )
        self._loaded = {version: given.embedder}
        self.refresh(only=LOOK)
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

        Raises StoreUnavailable, InvalidInput if no version of the space is active, and Unavailable
        if this process has not loaded it.
        """
        # No database may compare another name in its own way, or be given half a surrogate pair.
        active = self._stores.registry.find_active(space) if _SPACE.fullmatch(space) else None
        if active is None and space != LOOK:
            detail = (
                f"The space {space[:63]} does not exist or is not active. GET /spaces, or"
                " `lookalike spaces list`, lists all."
            )
            raise InvalidInput("space-not-found", detail)
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
    def loaded(self) -> Mapping[str, Embedder]:
        """The networks that this process has loaded, by version, as of the last refresh."""
        return self._loaded

    @property
    def live_versions(self) -> list[str]:
        """The loaded versions, the active one of `look` first, as of the last refresh."""
        return [model.id for model in self._live]

    @property
    def active_versions(self) -> list[str]:
        """The loaded versions that searches use, one per space, as of the last refresh."""
        return [model.id for model in self._live if model.state is ModelState.ACTIVE]

    def _keep_refreshing(self) -> None:
        interval = min(self._interval, _LEASE / _HEARTBEATS)
        while not self._stopping.wait(0 if self._postponed else interval):
            self._postponed = False
            try:
                self.refresh()
            except StoreUnavailable as error:
                log.warning("models not refreshed", store=error.store, reason=str(error))
            except Exception:  # the thread must survive every error
                log.exception("models not refreshed")

    def refresh(self, only: str | None = None) -> None:
        """Load new live versions, drop those that are retired, and send a heartbeat.

        ``only`` names a space: versions of others are not loaded yet. Raises StoreUnavailable.
        """
        with self._refreshing:  # so that an older registry read never overwrites a newer one
            models = self._stores.registry.list_models()
            live = [model for model in models if model.state is not ModelState.RETIRED]
            self._publish_loaded(live)
            for model in live:
                if model.id not in self._loaded and only in (None, model.space):
                    self._send_heartbeat()  # loading may take longer than the lease
                    embedder = self._load_version(model.id)
                    if embedder is not None:
                        self._loaded = {**self._loaded, model.id: embedder}
                        self._publish_loaded(live)
            self._broken &= {model.id for model in live}
            self._postponed = only is not None and any(model.space != only for model in live)
            self._send_heartbeat()

    def _publish_loaded(self, live: list[ModelVersion]) -> None:
        """Show other threads what is live and loaded; both are replaced as a whole for them."""
        self._live = [model for model in live if model.id in self._loaded]
        self._loaded = {model.id: self._loaded[model.id] for model in self._live}

    def _load_version(self, version: str) -> Embedder | None:
        try:
            with self._files.open(version) as encoder:
                embedder = self._load(encoder)
        except (ObjectMissing, EncoderInvalid, MemoryError, OSError) as error:
            if version not in self._broken:  # log it once, not at every refresh
                log.error("cannot load a model", version=version, reason=str(error))
                self._broken.add(version)
            return None
        log.info("model loaded", version=version)
        return embedder

    def _share_file(self, given: GivenModel) -> None:
        """Store the encoder for other processes, whose release may ship another one."""
        version = given.embedder.model_version
        if given.file is not None and not self._files.exists(version):
            with given.file.open("rb") as file:
                self._files.store(version, file)

    def _send_heartbeat(self) -> None:
        """Record what is loaded, if that changed or the last heartbeat is too old.

        A failure is only logged: a database that cannot be written to can still be searched.
        """
        loaded = self.live_versions
        sent_at, sent = self._last_heartbeat
        if sent != loaded or time.monotonic() - sent_at > _LEASE / _HEARTBEATS / 2:
            self._last_heartbeat = (time.monotonic(), loaded)
            try:
                self._stores.registry.record_heartbeat(self._replica, loaded, _LEASE)
            except StoreUnavailable as error:
                log.warning("heartbeat not recorded", store=error.store, reason=str(error))
