"""What a bystander notices while the service is attacked, and how much memory the attacks take.

    make bench-hostile

Each attack runs for some seconds against one service with two slots, and at last all of them at
once. Meanwhile a bystander searches and asks for /livez. Memory is the sum over the service's
processes of what each has for itself, and its share of what they have together (PSS). `lost`
counts uploads that were acknowledged, before or during the attacks, and cannot be read afterwards.
Prints one JSON object last.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import attacks
from benchmarks.attacks import Attack, attacking
from benchmarks.bench_search import fill_installation
from benchmarks.service import (
    Client,
    ServiceProcess,
    encode_form,
    find_free_port,
    make_parser,
    make_photographs,
    run_process,
)
from models.weights_file import DEFAULT_WEIGHTS, WeightsFile

SECONDS = 10.0  # of each attack
MASTERS = 20_000
_SAMPLE_EVERY = 0.2  # seconds between two measurements of memory
_BYSTANDER = "127.0.0.2"  # the attackers have another address
_TIMEOUT = 30.0  # seconds after which a bystander gives up


class Bystander:
    """A client that sends one request after the other, and keeps their times in milliseconds."""

    def __init__(self, send: Callable[[http.client.HTTPConnection], None], port: int) -> None:
        self.times: list[float] = []
        self.failures = 0
        self._send, self._port = send, port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._port, timeout=_TIMEOUT, source_address=(_BYSTANDER, 0)
        )
        while not self._end.is_set():
            start = time.perf_counter()
            try:
                self._send(connection)
            except (OSError, http.client.HTTPException):
                connection.close()
                self.failures += 1
                time.sleep(0.05)
            self.times.append((time.perf_counter() - start) * 1000)
            time.sleep(0.01)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


class MemoryWatch:
    """Samples the memory of a process and its descendants; ``peak`` is in MB."""

    def __init__(self, pid: int) -> None:
        self.peak = 0.0
        self._pid = pid
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(_SAMPLE_EVERY):
            self.peak = max(self.peak, sum(map(read_pss, find_family(self._pid))))

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def find_family(pid: int) -> list[int]:
    """Return the ids of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    family = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            family += map(int, (task / children.name).read_text().split())
        except FileNotFoundError:
            continue
    return family


def read_pss(pid: int) -> float:
    """Return the proportional set size of a process in MB; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(text.partition("\nPss:")[2].split()[0]) * 1024 / 1e6


def search_with(sample: bytes) -> Callable[[http.client.HTTPConnection], None]:
    headers = {"Content-Type": "multipart/form-data; boundary=lookalike-benchmark"}

    def send(connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/search", sample, headers)
        _expect_ok(connection)

    return send


def ask_livez(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/livez")
    _expect_ok(connection)


def _expect_ok(connection: http.client.HTTPConnection) -> None:
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}")


class Uploader:
    """Uploads different photographs, and remembers what was acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._photographs = iter(make_photographs(4000, 64, 48))
        self._lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}  # path of the content -> SHA-256

    def upload(self, content: bytes | None = None) -> dict[str, Any]:
        """Upload one image. Raises RuntimeError, OSError."""
        with self._lock:
            image = content or next(self._photographs)
        answer = json.loads(Client(self._port).post("/masters", encode_form([("file", image)])))
        master: dict[str, Any] = answer["results"][0]["master"]
        self.acknowledged[master["links"]["content"]] = hashlib.sha256(image).hexdigest()
        return master

    def count_lost(self) -> int:
        client = Client(self._port)
        return sum(
            hashlib.sha256(client.get(path)).hexdigest() != digest
            for path, digest in self.acknowledged.items()
        )


def plan_attacks(uploader: Uploader) -> dict[str, list[Attack]]:
    large = uploader.upload(attacks.noisy_png())["links"]
    flat = uploader.upload(attacks.flat_png("RGB"))["links"]
    photograph = make_photographs(1, 448, 336, seed=7)[0]
    hidden = attacks.many_scans(1600, 4000, b"\xff\x01")
    return {
        "32 searches with 64 megapixels": [attacks.search_with(attacks.flat_png("RGB"), 32)],
        "the same with transparency": [attacks.search_with(attacks.flat_png("RGBA"), 32)],
        "32 searches with 1 600 scans": [attacks.search_with(hidden, 32)],
        "32 searches with 80 scans": [attacks.search_with(attacks.many_scans(80, 7900), 32)],
        "120 thumbnails of 27 MB": [attacks.thumbnails(large["thumbnail"], 120)],
        "300 thumbnails, hung up": [attacks.thumbnails(flat["thumbnail"], 300, hang_up=True)],
        "a charset with quadratic time": [attacks.strange_charset()],
        "request heads of 100 MB": [attacks.endless_head()],
        "1 100 silent connections": [attacks.silent_connections(1100)],
        "32 readers that stop": [attacks.slow_readers(large["content"], 32)],
        "700 callers of /readyz": [attacks.readiness(700)],
        "filters of 48 ranges": [attacks.costly_filter(photograph)],
    }


def measure(service: ServiceProcess, uploader: Uploader, planned: list[Attack]) -> dict[str, float]:
    """Attack for some seconds; return memory in MB, and times of the bystanders in ms."""
    sample = encode_form([("sample", make_photographs(1, 448, 336, seed=3)[0])])
    watch = MemoryWatch(service.process.pid)
    upload = attacks.repeat(1, lambda port, number: attacks._discard(uploader.upload()))
    bystanders = Bystander(search_with(sample), service.port), Bystander(ask_livez, service.port)
    with attacking([*planned, upload], service.port):
        time.sleep(SECONDS)
        for bystander in bystanders:
            bystander.end()
    watch.end()
    search, livez = bystanders
    return {
        "peak": round(watch.peak),
        "search": round(max(search.times)),
        "search_p99": round(np.percentile(search.times, 99)),
        "livez": round(max(livez.times)),
        "livez_p99": round(np.percentile(livez.times, 99)),
        "failures": search.failures + livez.failures,
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("only", nargs="*", help="numbers of the attacks to run; default: all")
    only = {int(number) for number in parser.parse_args().only}
    port = find_free_port()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as name:
        directory = Path(name)
        fill_installation(directory, WeightsFile.load(DEFAULT_WEIGHTS).version, MASTERS)
        environment = {
            "LOOKALIKE_DATA_DIR": name,
            "LOOKALIKE_PORT": str(port),
            "LOOKALIKE_SLOTS": "2",
        }
        with run_process([sys.executable, "api.py"], "/readyz", environment, port) as service:
            uploader = Uploader(port)
            planned = {"nothing": [], **plan_attacks(uploader)}
            planned["all at once"] = [each for several in planned.values() for each in several]
            for number, (attack, threads) in enumerate(planned.items()):
                if not only or number in only:
                    rows[attack] = measure(service, uploader, threads)
                    print(f"{number:2} {attack}: {json.dumps(rows[attack])}", file=sys.stderr)
            lost = uploader.count_lost()
            acknowledged = len(uploader.acknowledged)
            after = sum(map(read_pss, find_family(service.process.pid)))
    _print_table(rows)
    print(f"{acknowledged} uploads acknowledged, {lost} lost; {after:.0f} MB in use afterwards")
    summary = {
        "peak_mb": max(row["peak"] for row in rows.values()),
        "bystander_search_p99_ms": max(row["search_p99"] for row in rows.values()),
        "bystander_livez_p99_ms": max(row["livez_p99"] for row in rows.values()),
        "lost": lost,
    }
    print(json.dumps({name: round(value) for name, value in summary.items()}))


def _print_table(rows: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"{SECONDS:g} s of each attack; times in ms, as a bystander sees them")
    headings = ("peak MB", "search p99", "slowest", "/livez p99", "slowest", "failures")
    for column in ("", *headings):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    columns = ("peak", "search_p99", "search", "livez_p99", "livez", "failures")
    for attack, row in rows.items():
        table.add_row(attack, *(f"{row[column]:.0f}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    main()
