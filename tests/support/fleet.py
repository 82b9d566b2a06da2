"""Starts the servers of a test run in parallel, restarts those that die, and stops them all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.servers import CannotStart, Server, mariadb, milvus, seaweedfs
from tests.support.system_packages import skip_or_fail

_DIRECTORY = "LOOKALIKE_TEST_SERVERS"
MAKERS: dict[str, Callable[[Path], Server]] = {
    "mariadb": mariadb,
    "seaweedfs": seaweedfs,
    "milvus": milvus,
}
_PATIENCE = 180.0  # seconds


class Fleet:
    """The servers of the run, owned by the process that controls it.

    Test workers read the URL or the error of each server from a file in a shared directory.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="lookalike-servers-"))
        os.environ[_DIRECTORY] = str(self._directory)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(name,), daemon=True) for name in names
        ]
        for thread in self._threads:
            thread.start()

    def _keep(self, name: str) -> None:
        try:
            server = MAKERS[name](self._directory / name)
            server.start(_PATIENCE)
        except (CannotStart, OSError) as error:
            self._tell(name, {"error": str(error)})
            return
        self._tell(name, {"url": server.url})
        while not self._stopping.wait(0.5):
            if not server.alive:
                with suppress(CannotStart, OSError):  # the next round retries
                    server.start(_PATIENCE)
        server.kill()  # its data is not needed any more

    def _tell(self, name: str, news: dict[str, str]) -> None:
        partial = self._directory / f"{name}.partial"
        partial.write_text(json.dumps(news))
        partial.rename(self._directory / f"{name}.json")

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        shutil.rmtree(self._directory, ignore_errors=True)


def url_of(name: str) -> str:
    """Return the URL of a running server. Skips the test without it; fails it in CI."""
    news = Path(os.environ[_DIRECTORY]) / f"{name}.json"
    until = time.monotonic() + _PATIENCE
    while not news.exists():
        if time.monotonic() > until:
            pytest.fail(f"{name} is still starting after {_PATIENCE:.0f} s")
        time.sleep(0.1)
    told: dict[str, str] = json.loads(news.read_text())
    if "error" in told:
        skip_or_fail(told["error"])
    return told["url"]
