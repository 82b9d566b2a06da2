"""What the benchmarks share: photographs to send, a service process to send them to, clients that cost little."""

from __future__ import annotations

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


def photographs(
    count: int, width: int, height: int, quality: int = 85, seed: int = 0
) -> list[bytes]:
    """Different JPEGs of that size: random parts of real photographs, with a little grain as a camera adds it."""
    random = np.random.default_rng(seed)
    sources = [Image.fromarray(getattr(data, name)()[..., :3]) for name in _PHOTOGRAPHS]
    made = []
    for number in range(count):
        source = sources[number % len(sources)]
        part = random.uniform(0.4, 0.9)
        w = min(source.width * part, source.height * part * width / height)
        h = w * height / width
        x, y = random.uniform(0, source.width - w), random.uniform(0, source.height - h)
        image = source.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h))
        tile = random.normal(0, 4, (256, 256, 1)).repeat(3, axis=2)
        grain = np.tile(tile, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
        pixels = (np.asarray(image, dtype=np.float32) + grain).clip(0, 255).astype(np.uint8)
        output = io.BytesIO()
        Image.fromarray(pixels).save(output, "JPEG", quality=quality)
        made.append(output.getvalue())
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A running process that answers HTTP on 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_after: float) -> None:
        self.process = process
        self.port = port
        self.ready_after = ready_after  # seconds from the start of the process

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def running(
    command: Sequence[str], probe: str, environment: dict[str, str], port: int
) -> Iterator[Service]:
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
                if process.poll() is not None or time.perf_counter() - start > 60:
                    raise RuntimeError(f"{command} did not start") from None
                time.sleep(0.02)
        yield Service(process, port, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def lookalike(**settings: str) -> Iterator[Service]:
    """The service, as a user starts it, on an empty data directory."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as directory:
        environment = {"LOOKALIKE_DATA_DIR": directory, "LOOKALIKE_PORT": str(port)}
        environment |= {f"LOOKALIKE_{name.upper()}": value for name, value in settings.items()}
        with running([sys.executable, "api.py"], "/readyz", environment, port) as service:
            yield service


_BOUNDARY = b"lookalike-benchmark"


def form(files: Sequence[tuple[str, bytes]], fields: dict[str, str] | None = None) -> bytes:
    """A multipart body, made before the clock runs."""
    parts = []
    for name, value in (fields or {}).items():
        parts.append(
            b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (_BOUNDARY, name.encode(), value.encode())
        )
    for name, content in files:
        head = b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="photograph.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head % (_BOUNDARY, name.encode()) + content + b"\r\n")
    return b"".join(parts) + b"--%s--\r\n" % _BOUNDARY


class Client:
    """One kept-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, path: str, body: bytes) -> bytes:
        headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")
        return answer

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()


def in_threads(work: Callable[[int], None], count: int) -> float:
    """Seconds that ``work(0) … work(count - 1)`` take side by side."""
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
    """Images per second of uploading the bodies over that many connections, spread over the ports."""
    ports = [port] if isinstance(port, int) else port

    def work(number: int) -> None:
        client = Client(ports[number % len(ports)])
        for body in bodies[number::clients]:
            if b'"indexed":false' in client.post("/masters", body):
                raise RuntimeError(
                    "an upload was left to the worker"
                )  # it took less work: its time says nothing

    return len(bodies) / in_threads(work, clients)
