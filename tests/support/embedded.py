"""Embedded installations that separate processes serve, back up or check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import ROOT, CommandProcess, run_command
from tests.support.requests import open_client
from tests.support.servers import free_ports
from tests.support.service import eventually
from tests.support.tiny_network import tiny_weights

# Wrapped output would break the sentences that tests search for.
_WIDE = {"COLUMNS": "200"}


def free_port() -> int:
    return free_ports(1)[0]


def start_fork(data_dir: Path, port: int, **settings: str) -> CommandProcess:
    """Serve ``data_dir`` from a fork of the warm process, with the tiny network."""
    output = Path(tempfile.mkdtemp(prefix="lookalike-test-"))
    weights = output / "tiny.safetensors"
    weights.write_bytes(tiny_weights("first"))
    environment = _environment(data_dir, port, settings)
    environment.setdefault("LOOKALIKE_WEIGHTS", str(weights))
    process = CommandProcess(
        "serve", environment=environment, stdout=output / "stdout", stderr=output / "stderr"
    )
    weakref.finalize(process, shutil.rmtree, output, ignore_errors=True)
    return process


def start_interpreter(data_dir: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    """Serve ``data_dir`` from a new interpreter, as a user does, with the shipped network."""
    return subprocess.Popen(
        [sys.executable, "api.py"],
        cwd=ROOT,
        env=_environment(data_dir, port, settings),
        stderr=subprocess.PIPE,
        text=True,
    )


def _environment(data_dir: Path, port: int, settings: dict[str, str]) -> dict[str, str]:
    ours = {"LOOKALIKE_DATA_DIR": str(data_dir), "LOOKALIKE_PORT": str(port)}
    return os.environ | ours | settings


@contextmanager
def serve_until_ready(process: Any, port: int) -> Iterator[httpx.Client]:
    """Yield a client as soon as a process is ready, and kill the process at the end."""
    with open_client(f"http://127.0.0.1:{port}", timeout=30) as client:

        def is_ready() -> bool:
            try:
                return client.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        try:
            assert eventually(is_ready, 30)
            yield client
        finally:
            process.kill()
            process.communicate()


@contextmanager
def serve_fork(
    data_dir: Path, port: int, **settings: str
) -> Iterator[tuple[CommandProcess, httpx.Client]]:
    """Serve from a fork; yield the process and a client as soon as it is ready."""
    process = start_fork(data_dir, port, **settings)
    with serve_until_ready(process, port) as client:
        yield process, client


@contextmanager
def serve_interpreter(
    data_dir: Path, port: int, **settings: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Serve from a new interpreter; yield the process and a client as soon as it is ready."""
    process = start_interpreter(data_dir, port, **settings)
    with serve_until_ready(process, port) as client:
        yield process, client


def run_on(data_dir: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ``lookalike`` on an installation; return what it printed."""
    ours = {"LOOKALIKE_DATA_DIR": str(data_dir)} | _WIDE
    return run_command(*arguments, environment=os.environ | ours | settings)
