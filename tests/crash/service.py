"""The real service in a process of its own, on the embedded stores, that is killed before or after one of its writes.

The stores are wrapped here; nothing of this is in the service. Only the network is replaced, by one that costs nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import uvicorn
from numpy.typing import NDArray
from safetensors.numpy import save

import app.bootstrap
from app.bootstrap import connect_stores, run_services
from app.logs import configure_logging
from app.main import create_app
from app.services.loaded_models import GivenModel
from app.settings import Settings
from models.transforms import PREPROCESSING_ID
from models.weights_file import EMBEDDING_DIM, FEATURE_DIM, WeightsFile
from storage.protocols import Stores
from tests.crash import wrong

WRITES = {
    "metadata": [
        "create_collection",
        "delete_collection",
        "empty_collection",
        "drain_collections",
        "reserve_master",
        "renew_reservation",
        "commit_stored",
        "abandon_reservation",
        "expire_reservations",
        "update_master",
        "delete_master",
        "claim_deleting",
        "forget_master",
        "claim_embeddings",
        "claim_embedding",
        "mark_indexed",
        "retry_embedding",
        "release_embedding",
        "requeue_dead_letters",
        "mark_damaged",
        "restore_damaged",
        "requeue_embedding",
        "acquire_lease",
        "release_lease",
    ],
    "registry": [
        "register_active",
        "start_building",
        "backfill_embeddings",
        "activate_model",
        "retire_model",
        "drain_retired",
        "forget_retired",
        "record_heartbeat",
    ],
    "objects": ["put", "delete"],
    "vectors": ["upsert", "delete", "drop_version"],
}
POLLED = {
    "drain_collections",
    "expire_reservations",
    "claim_deleting",
    "claim_embeddings",
    "acquire_lease",
}
Moment = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Kill:
    """At the ``count``-th call of that name (``objects.put``); what is polled counts only when it changed something."""

    write: str
    count: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment} {self.write} {self.count}"


def tiny_weights(name: str) -> bytes:
    """The weights of a tiny network, of a model version of their own."""
    projection = np.zeros((EMBEDDING_DIM, FEATURE_DIM), dtype=np.int8)
    return save(
        {"projection.weight": projection},
        metadata={"preprocessing": PREPROCESSING_ID, "name": name},
    )


class TinyNetwork:
    """An embedder that costs nothing and still finds what is alike; another version turns its embeddings."""

    def __init__(self, weights: WeightsFile) -> None:
        self.model_version = weights.version
        self.calibration = None
        chance = np.random.default_rng(list(weights.version.encode()))
        self._turn = np.linalg.qr(chance.standard_normal((EMBEDDING_DIM, 192)))[0].astype(
            np.float32
        )

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = (
            images.reshape(len(images), 8, 28, 8, 28, 3)
            .mean(axis=(2, 4))
            .reshape(len(images), 192)
            .astype(np.float32)
        )
        small += 1.0 - small.mean(axis=1, keepdims=True)  # of a plain grey something is left, too
        embedded: NDArray[np.float32] = small @ self._turn.T
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)


class Watch:
    """Counts the writes from when it is armed, and ends the process at one of them."""

    def __init__(self, kill: Kill | None, armed: Any, log: Path) -> None:
        self._kill = kill
        self._armed = armed
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def call(self, name: str, method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        if not self._armed.value:
            return method(*arguments, **named)
        if name.partition(".")[2] in POLLED:
            result = method(*arguments, **named)
            if result:
                self._end_if(self._counted(name), "after")
            return result
        kill = self._counted(name)
        self._end_if(kill, "before")
        if name == "objects.put" and kill and kill.moment == "during":
            arguments = (arguments[0], _Half(arguments[1]), *arguments[2:])
        result = method(*arguments, **named)
        self._end_if(kill, "after")
        return result

    def _counted(self, name: str) -> Kill | None:
        with self._lock:
            self._counts[name] += 1
            os.write(self._log, f"{name}\n".encode())
            kill = self._kill
            return (
                kill
                if kill
                and (kill.write, kill.count)
                in ((name, self._counts[name]), ("any", self._counts.total()))
                else None
            )

    def _end_if(self, kill: Kill | None, moment: Moment) -> None:
        if kill is not None and kill.moment == moment:
            end()


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Half:
    """A file that ends the process when its second part is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts = 0

    def read(self, size: int = -1) -> bytes:
        self._parts += 1
        if self._parts == 2:
            end()
        return self._file.read(64)


class Watched:
    """A store whose writes are seen by a watch."""

    def __init__(self, name: str, store: Any, watch: Watch) -> None:
        self._name, self._store, self._watch = name, store, watch

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._store, attribute)
        if attribute not in WRITES[self._name]:
            return value
        return lambda *arguments, **named: self._watch.call(
            f"{self._name}.{attribute}", value, *arguments, **named
        )


def watched(stores: Stores, watch: Watch) -> Stores:
    return replace(stores, **{name: Watched(name, getattr(stores, name), watch) for name in WRITES})


def run(
    directory: Path, weights: Path, kill: Kill | None, armed: Any, ready: Connection, order: str
) -> None:
    """Serve until ended. ``order`` names a mistake to make, for the harness to find."""
    app.bootstrap.build_embedder = lambda settings, weights: TinyNetwork(weights)  # type: ignore[assignment]
    wrong.MISTAKES[order]()
    configure_logging("error")
    settings = Settings(
        data_dir=directory,
        worker_interval=0.02,
        lease_seconds=0.5,
        scrub_grace=0.0,
        scrub_interval=0.0,
        _env_file=None,
    )
    given = GivenModel(TinyNetwork(WeightsFile.load(weights)), weights)
    directory.mkdir(exist_ok=True)
    watch = Watch(kill, armed, directory / "writes.log")
    with (
        connect_stores(settings) as stores,
        run_services(settings, watched(stores, watch), given) as services,
    ):
        app_ = create_app(settings, services)
        server = uvicorn.Server(uvicorn.Config(app_, port=0, log_config=None, access_log=False))
        threading.Thread(target=_announce, args=(server, ready), daemon=True).start()
        server.run()


def _announce(server: uvicorn.Server, ready: Connection) -> None:
    while not server.started:
        if server.should_exit:
            return
        threading.Event().wait(0.005)
    ready.send(server.servers[0].sockets[0].getsockname()[1])
