"""Processes of the service over real servers, each test with a database, a bucket and Milvus collections of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from tests.support import fleet
from tests.support.servers import free_ports
from tests.support.service import eventually

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Stack:
    """Starts API replicas and workers that share the same stores; ends all of them."""

    environment: dict[str, str]
    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        log = (self.directory / f"process-{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", "app.cli", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | self.environment | settings, stderr=log
        )
        log.close()
        self.processes.append(process)
        return process

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself, with what it printed."""
        command = [sys.executable, "-m", "app.cli", *arguments]
        environment = os.environ | self.environment | settings
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def replica(self, **settings: str) -> Iterator[httpx.Client]:
        """An API process, ready, with a client for it."""
        port = free_ports(1)[0]
        process = self.start("serve", "--port", str(port), **settings)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def answers() -> bool:
                assert process.poll() is None, self.logs()
                try:
                    return client.get("/livez").status_code == 200
                except httpx.TransportError:
                    return False

            assert eventually(answers, 60), self.logs()
            yield client

    def logs(self) -> str:
        return "\n".join(
            path.read_text(errors="replace")[-3000:]
            for path in sorted(self.directory.glob("process-*.log"))
        )

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The servers' addresses as settings, the schema in place."""
    name = f"test_{uuid4().hex}"
    server = sa.create_engine(fleet.url_of("mariadb"))
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    objects = fleet.url_of("seaweedfs").replace("/lookalike?", f"/{name.replace('_', '-')}?")
    stack = Stack(
        {
            "LOOKALIKE_DATABASE_URL": server.url.set(database=name).render_as_string(
                hide_password=False
            ),
            "LOOKALIKE_OBJECTS_URL": objects,
            "LOOKALIKE_VECTORS_URL": fleet.url_of("milvus"),
            "LOOKALIKE_MILVUS_PREFIX": name,
            "LOOKALIKE_WORKER_INTERVAL": "0.1",
        },
        tmp_path,
    )
    with ExitStack() as ending:
        ending.callback(server.dispose)
        ending.callback(stack.stop)
        assert stack.start("db", "upgrade").wait(60) == 0, stack.logs()
        yield stack


def result_of(response: httpx.Response) -> dict[str, Any]:
    result: dict[str, Any] = response.json()["results"][0]
    return result
