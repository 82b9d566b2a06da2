"""The server stack for benchmarks: MariaDB, SeaweedFS and Milvus, and processes of the service.

    python -m benchmarks.stack

This command serves an API replica with the settings of the environment. Its network only sleeps.
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
from app.given_model import GivenModel
from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings
from benchmarks.service import ROOT, ServiceProcess, find_free_port, run_process
from models.transforms import CentreSquare
from tests.support.servers import Server, mariadb, milvus, seaweedfs

PAUSE = 0.1  # seconds that the sleeping network takes for each image


@dataclass(frozen=True)
class Stack:
    """Running servers, each on an empty directory."""

    mariadb: Server
    seaweedfs: Server
    milvus: Server

    @property
    def environment(self) -> dict[str, str]:
        """The settings that connect the service to these servers."""
        return {
            "LOOKALIKE_DATABASE_URL": self.mariadb.url,
            "LOOKALIKE_OBJECTS_URL": self.seaweedfs.url,
            "LOOKALIKE_VECTORS_URL": self.milvus.url,
        }

    @property
    def servers(self) -> tuple[Server, ...]:
        return (self.mariadb, self.seaweedfs, self.milvus)

    def upgrade_schema(self) -> None:
        """Create the tables."""
        subprocess.run(
            [sys.executable, "-m", "app.cli", "db", "upgrade"],
            cwd=ROOT,
            env=os.environ | self.environment,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    @contextmanager
    def run_api(self, *command: str, **settings: str) -> Iterator[ServiceProcess]:
        """Run one API process over the servers.

        ``command`` are Python's arguments, by default ``api.py``; ``settings`` are as in
        ``run_lookalike``.
        """
        port = find_free_port()
        environment = self.environment | {
            f"LOOKALIKE_{name.upper()}": value for name, value in settings.items()
        }
        environment["LOOKALIKE_PORT"] = str(port)
        arguments = [sys.executable, *(command or ("api.py",))]
        with run_process(arguments, "/readyz", environment, port) as service:
            yield service

    @contextmanager
    def run_worker(self) -> Iterator[subprocess.Popen[bytes]]:
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
def run_stack() -> Iterator[Stack]:
    """Run all three servers.

    Call it in the main thread: the servers end with the thread that started them. Raises
    CannotStart.
    """
    with _temporary_directory() as directory, ExitStack() as exits:
        servers = [make(directory / make.__name__) for make in (mariadb, seaweedfs, milvus)]
        for server in servers:
            exits.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait()
        yield Stack(*servers)


@contextmanager
def run_milvus() -> Iterator[Server]:
    """Run Milvus alone; see ``run_stack``."""
    with _temporary_directory() as directory:
        server = milvus(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix="lookalike-bench-", ignore_cleanup_errors=True
    ) as directory:
        yield Path(directory)


def require_process(server: Server) -> subprocess.Popen[bytes]:
    """Return the process of a server. Raises RuntimeError if it has not been started."""
    if server.process is None:
        raise RuntimeError(f"{server.name} has not been started")
    return server.process


def read_cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU time of the process so far, in all threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class SleepingEmbedder:
    """Sleeps in place of a network, one image at a time, and returns random vectors.

    It behaves like an accelerator: meanwhile the cores are free for everything else.
    """

    model_version = "sleeping"
    calibration = None
    dimension = 512
    preprocessing = CentreSquare()
    text = None
    places = None

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def embed(self, images: NDArray[np.uint8], *, all_cores: bool = False) -> NDArray[np.float32]:
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
    with run_service(settings, GivenModel(SleepingEmbedder())) as services:
        app = create_app(settings, services)
        uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
