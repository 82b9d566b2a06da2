"""A running service to measure, images to send to it, and clients that cost little CPU time."""

from __future__ import annotations

import argparse
import http.client
import io
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

ROOT = Path(__file__).parent.parent
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina")
_START_TIMEOUT = 600  # seconds; a million masters on a busy machine
_BOUNDARY = b"lookalike-benchmark"


def make_parser(module_docstring: str | None) -> argparse.ArgumentParser:
    """Make the argument parser of a benchmark; ``--help`` shows the whole module docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{Path(sys.argv[0]).stem}",
        description=module_docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def make_photographs(
    count: int, width: int, height: int, quality: int = 85, seed: int = 0
) -> list[bytes]:
    """Make ``count`` different JPEGs of this size in pixels.

    They are random parts of real photographs with a little noise, as a camera adds it.
    """
    rng = np.random.default_rng(seed)
    sources = [Image.fromarray(getattr(data, name)()[..., :3]) for name in _PHOTOGRAPHS]
    made = []
    for number in range(count):
        source = sources[number % len(sources)]
        part = rng.uniform(0.4, 0.9)
        w = min(source.width * part, source.height * part * width / height)
        h = w * height / width
        x, y = rng.uniform(0, source.width - w), rng.uniform(0, source.height - h)
        image = source.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
        tile = rng.normal(0, 4, (256, 256, 1)).repeat(3, axis=2)
        noise = np.tile(tile, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
        pixels = (np.asarray(image, dtype=np.float32) + noise).clip(0, 255).astype(np.uint8)
        output = io.BytesIO()
        Image.fromarray(pixels).save(output, "JPEG", quality=quality)
        made.append(output.getvalue())
    return made


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """A process that answers HTTP on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_after: float) -> None:
        self.process = process
        self.port = port
        self.ready_after = ready_after  # seconds from the start of the process

    def resident_mb(self, *, private: bool = False) -> float:
        """Return the resident memory in MB; ``private`` leaves out what is mapped from files."""
        return _read_memory(self.process.pid, "RssAnon" if private else "VmRSS")

    def decoders(self) -> list[int]:
        """Return the ids of the processes in which the service decodes images."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    def decoders_mb(self) -> float:
        """Return the resident memory of the processes that decode, in MB."""
        return sum(_read_memory(pid, "VmRSS") for pid in self.decoders())


def _read_memory(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


@contextmanager
def run_process(
    command: Sequence[str], probe: str, environment: dict[str, str], port: int
) -> Iterator[ServiceProcess]:
    """Run a command and yield when ``GET probe`` answers 200 on the port; stop it afterwards."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", probe)
                if connection.getresponse().status == 200:
                    break
            except OSError:
                if process.poll() is not None or time.perf_counter() - start > _START_TIMEOUT:
                    raise RuntimeError(f"The command did not start: {' '.join(command)}") from None
                time.sleep(0.02)
        yield ServiceProcess(process, port, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def run_lookalike(**settings: str) -> Iterator[ServiceProcess]:
    """Run the service as a user starts it, on an empty data directory.

    ``settings`` are names of settings in lower case, without the prefix ``LOOKALIKE_``.
    """
    port = find_free_port()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        environment |= {f"LOOKALIKE_{name.upper()}": value for name, value in settings.items()}
        with run_process([sys.executable, "api.py"], "/readyz", environment, port) as service:
            yield service


def encode_form(files: Sequence[tuple[str, bytes]], fields: dict[str, str] | None = None) -> bytes:
    """Encode a multipart body, so that this is done before the clock starts.

    ``files`` are pairs of a field name and the content of a JPEG.
    """
    parts = []
    for name, value in (fields or {}).items():
        parts.append(
            b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (_BOUNDARY, name.encode(), value.encode())
        )
    for name, content in files:
        parts.append(
            b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="photograph.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" % (_BOUNDARY, name.encode())
        )
        parts.append(content + b"\r\n")
    return b"".join(parts) + b"--%s--\r\n" % _BOUNDARY


class Client:
    """One keep-alive connection to a service."""

    def __init__(self, port: int, timeout: float = 120.0) -> None:
        """``timeout`` is in seconds."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def post(self, path: str, body: bytes) -> bytes:
        """Send a body from ``encode_form``. Raises RuntimeError for a status of 300 or more."""
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            text = answer[:200].decode(errors="replace")
            raise RuntimeError(f"POST {path} returned {response.status}: {text}")
        return answer

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()


def time_threads(work: Callable[[int], None], count: int) -> float:
    """Run ``work(0)`` to ``work(count - 1)`` concurrently; return the seconds until all are done.

    Raises the first exception that any of them raised.
    """
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - start


def upload_all(port: int | Sequence[int], bodies: Sequence[bytes], clients: int) -> float:
    """Upload the bodies over ``clients`` connections, spread over the ports; return images/s."""
    ports = [port] if isinstance(port, int) else port

    def work(number: int) -> None:
        client = Client(ports[number % len(ports)])
        for body in bodies[number::clients]:
            # An upload that is left to the worker took less work, so its time means nothing.
            if b'"indexed":false' in client.post("/masters", body):
                raise RuntimeError("An upload was not indexed before it was acknowledged.")

    return len(bodies) / time_threads(work, clients)
