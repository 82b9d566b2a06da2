"""The server stack for benchmarks: the servers, the service's processes over them, and a replica whose network is a pause.

python -m benchmarks.stack      serves such a replica with the settings of the environment
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn
from numpy.typing import NDArray

from app.bootstrap import run_service
from app.logs import configure_logging
from app.main import create_app
from app.services.loaded_models import GivenModel
from app.settings import Settings
from benchmarks.service import ROOT, Service, free_port, running
from tests.support.servers import Server, mariadb, milvus, seaweedfs

PAUSE = 0.1  # seconds that the replica's network takes, one image at a time


@dataclass(frozen=True)
class Stack:
    """Servers that are up, each on an empty directory."""

    mariadb: Server
    seaweedfs: Server
    milvus: Server

    @property
    def environment(self) -> dict[str, str]:
        """The service's settings for these servers."""
        return {
            "LOOKALIKE_DATABASE_URL": self.mariadb.url,
            "LOOKALIKE_OBJECTS_URL": self.seaweedfs.url,
            "LOOKALIKE_VECTORS_URL": self.milvus.url,
        }

    @property
    def servers(self) -> tuple[Server, ...]:
        return (self.mariadb, self.seaweedfs, self.milvus)

    def upgrade(self) -> None:
        """Make the tables."""
        command = [sys.executable, "-m", "app.cli", "db", "upgrade"]
        subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | self.environment,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    @contextmanager
    def api(self, *command: str, **settings: str) -> Iterator[Service]:
        """One API process over the servers; ``command`` instead of the one a user types."""
        port = free_port()
        environment = self.environment | {
            f"LOOKALIKE_{name.upper()}": value for name, value in settings.items()
        }
        environment["LOOKALIKE_PORT"] = str(port)
        with running(
            [sys.executable, *(command or ("api.py",))], "/readyz", environment, port
        ) as service:
            yield service

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "app.cli", "worker"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | self.environment, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def stack() -> Iterator[Stack]:
    """All three servers. Call it in the main thread: they end with the thread that started them. Raises CannotStart."""
    with (
        tempfile.TemporaryDirectory(
            prefix="lookalike-bench-", ignore_cleanup_errors=True
        ) as directory,
        ExitStack() as stopping,
    ):
        servers = [make(Path(directory) / make.__name__) for make in (mariadb, seaweedfs, milvus)]
        for server in servers:
            stopping.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait()
        yield Stack(*servers)


@contextmanager
def milvus_alone() -> Iterator[Server]:
    """As ``stack``, with Milvus only."""
    with tempfile.TemporaryDirectory(
        prefix="lookalike-bench-", ignore_cleanup_errors=True
    ) as directory:
        server = milvus(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def process_of(server: Server) -> subprocess.Popen[bytes]:
    if server.process is None:
        raise RuntimeError(f"{server.name} has not been started")
    return server.process


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Processor time the process has taken so far, all its threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Sleeping:
    """An embedder whose network is an accelerator of its own that takes one image at a time: the cores stay free meanwhile."""

    model_version = "sleeping"

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._lock:
            time.sleep(PAUSE * len(images))
        seeds = [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8]) for image in images]
        vectors = np.stack(
            [np.random.default_rng(seed).standard_normal(512, dtype=np.float32) for seed in seeds]
        )
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def main() -> None:
    settings = Settings()
    configure_logging(settings.log_level)
    with run_service(settings, GivenModel(Sleeping())) as services:
        app = create_app(settings, services)
        uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
