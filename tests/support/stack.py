"""Processes of Lookalike that share the stores on one set of servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from app.bootstrap import connect_stores
from app.settings import Settings
from storage.protocols import Stores
from tests.support.processes import CommandProcess, run_command
from tests.support.requests import open_client
from tests.support.servers import free_ports
from tests.support.service import eventually


@dataclass
class Stack:
    """API replicas and workers with the settings of ``environment``; ``stop`` kills them.

    The logs of the processes go to ``directory``.
    """

    environment: dict[str, str]
    directory: Path
    processes: list[CommandProcess] = field(default_factory=list)

    def create_collections(self) -> None:
        """Let the processes create their collections on Milvus, as on a new server."""
        self.environment["LOOKALIKE_MILVUS_PREFIX"] = f"test_{uuid4().hex}"

    def start(self, *arguments: str, **settings: str) -> CommandProcess:
        """Start a command that runs until it is stopped."""
        log = self.directory / f"process-{len(self.processes)}.log"
        process = CommandProcess(
            *arguments, environment=self._environment(settings), stdout=log, stderr=log
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; return its exit code and output."""
        return run_command(*arguments, environment=self._environment(settings))

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        return os.environ | self.environment | settings

    @contextmanager
    def open_stores(self) -> Iterator[Stores]:
        """Open the stores that the processes share."""
        given = {
            name.removeprefix("LOOKALIKE_").lower(): each for name, each in self.environment.items()
        }
        with connect_stores(Settings(**given, _env_file=None)) as stores:
            yield stores

    @contextmanager
    def replica(self, **settings: str) -> Iterator[httpx.Client]:
        """Start an API process and yield a client for it as soon as it answers."""
        port = free_ports(1)[0]
        process = self.start("serve", "--port", str(port), **settings)
        with open_client(f"http://127.0.0.1:{port}", timeout=60) as client:

            def answers() -> bool:
                assert process.poll() is None, self.logs()
                try:
                    return client.get("/livez").status_code == 200
                except httpx.TransportError:
                    return False

            assert eventually(answers, 60), self.logs()
            yield client

    def logs(self) -> str:
        """Return the end of every process's log."""
        logs = sorted(self.directory.glob("process-*.log"))
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs)

    def stop(self) -> None:
        """Kill every process."""
        for process in self.processes:
            process.kill()
            process.wait()
