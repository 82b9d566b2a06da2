"""Soak test: load with random faults for a given time, then a check of the invariants.

    make soak MINUTES=20
    python -m tests.soak 20 --words

Two API replicas and a worker run over MariaDB, SeaweedFS and Milvus. Each process and server is
killed and restarted at random while the model changes repeatedly, and with --words also that of
the space `words`. Each answer must be by one version that was active, with its distances. At the
end, the first scrub repairs, the second one must find nothing, and all acknowledged data is
checked. The last line of the output is a JSON object. The exit code is 0 if nothing was lost.
Ctrl-C ends the load early, but the checks still run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.support.fleet import MAKERS
from tests.support.load import Load
from tests.support.operators import prepare_operators
from tests.support.requests import open_client
from tests.support.servers import Server, free_ports
from tests.support.service import eventually
from tests.support.stack import Stack

QUIET, LOUD = 4.0, 20.0  # seconds between two faults, at least and at most
DOWN = 5.0  # seconds until a killed process is restarted, at most
RECOVERY = 300.0  # seconds until all work must be done
console = Console(stderr=True, highlight=False)


class Process:
    """A named process of the service, which can be restarted with the same arguments."""

    def __init__(self, stack: Stack, name: str, *arguments: str) -> None:
        self.name = name
        self._stack = stack
        self._arguments = arguments
        self.launch()

    def launch(self) -> None:
        self._process = self._stack.start(*self._arguments)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Faults:
    """Kills a random target from time to time and restarts it.

    Call ``step`` in the main thread, because a server dies with the thread that started it.
    """

    def __init__(self, targets: list[Process | Server], chance: random.Random) -> None:
        self._targets = targets
        self._chance = chance
        self._due = time.monotonic() + chance.uniform(QUIET, LOUD)
        self._down: Process | Server | None = None
        self.counts: Counter[str] = Counter()

    def step(self) -> None:
        if time.monotonic() < self._due:
            return
        if self._down is not None:
            self.mend()
            self._due = time.monotonic() + self._chance.uniform(QUIET, LOUD)
            return
        self._down = self._chance.choice(self._targets)
        self._down.kill()
        self.counts[self._down.name] += 1
        console.print(f"killed {self._down.name}")
        self._due = time.monotonic() + self._chance.uniform(0, DOWN)

    def mend(self) -> None:
        """Restart every target that was killed or has ended."""
        self._down = None
        for target in self._targets:
            if not target.alive:
                target.launch()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", type=float)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--seed",
        type=int,
        default=None,
        help="Random seed of the faults and the load. Default: a new one, which is printed.",
    )
    parser.add_argument(
        "--words",
        action="store_true",
        help="Search in the space `words` too, and change its encoder repeatedly.",
    )
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int(time.time())
    console.print(f"seed {seed}")
    with ExitStack() as ending:
        directory = Path(
            ending.enter_context(tempfile.TemporaryDirectory(prefix="lookalike-soak-"))
        )
        chance, seconds = random.Random(seed), options.minutes * 60
        result = soak(directory, ending, seconds, options.clients, chance, words=options.words)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["lost"] == result["scrub_repairs_second_pass"] == 0 else 1


def soak(
    directory: Path,
    ending: ExitStack,
    seconds: float,
    clients: int,
    chance: random.Random,
    *,
    words: bool,
) -> dict[str, Any]:
    servers = [make(directory / name) for name, make in MAKERS.items()]
    for server in servers:
        server.launch()
        ending.callback(server.kill)
    for server in servers:
        server.wait()
    database, objects, vectors = (server.url for server in servers)
    stack = Stack(
        {
            "LOOKALIKE_DATABASE_URL": database,
            "LOOKALIKE_OBJECTS_URL": objects,
            "LOOKALIKE_VECTORS_URL": vectors,
            "LOOKALIKE_STORE_TIMEOUT": "5",
            "LOOKALIKE_LEASE_SECONDS": "5",
            "LOOKALIKE_WORKER_INTERVAL": "0.5",
            "LOOKALIKE_SCRUB_GRACE": "0",
        },
        directory,
    )
    ending.callback(stack.stop)
    if stack.run("db", "upgrade").returncode:
        raise SystemExit(stack.logs())
    ports = free_ports(2)
    ours = [Process(stack, f"api {port}", "serve", "--port", str(port)) for port in ports] + [
        Process(stack, "worker", "worker")
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    if not eventually(lambda: all(map(ready, urls)), RECOVERY):
        raise SystemExit(stack.logs())

    operators, checks = prepare_operators(urls, directory, chance, words=words)
    load = Load(urls, clients, seed=chance.randrange(1 << 30), fault_tolerant=True, spaces=checks)
    faults = Faults([*ours, *servers], chance)
    loading = threading.Thread(target=load.run, args=(seconds,))
    loading.start()
    for operator in operators:
        operator.start()
    with suppress(KeyboardInterrupt), Progress(*_columns(), console=console) as progress:
        task = progress.add_task("soaking", total=seconds, said="")
        start = time.monotonic()
        while loading.is_alive():
            loading.join(0.5)
            faults.step()
            switches = sum(operator.switches for operator in operators)
            said = (
                f"{load.acknowledged} acknowledged, {faults.counts.total()} faults,"
                f" {switches} switches"
            )
            progress.update(task, completed=min(seconds, time.monotonic() - start), said=said)
    load.stop()
    for operator in operators:
        operator.stopping.set()
    faults.mend()
    loading.join()
    for operator in operators:
        operator.join()
    result = judged(load, urls, faults)
    spaces = {
        check.name: {
            "switches": operator.switches,
            "removals": operator.removals,
            "answers_checked": check.answers,
            "distances_checked": check.distances,
        }
        for operator, check in zip(operators, checks, strict=True)
    }
    return result | {"switches": sum(each.switches for each in operators), "spaces": spaces}


def judged(load: Load, urls: list[str], faults: Faults) -> dict[str, Any]:
    """Wait until all work is done, scrub twice, check everything, and return the result."""
    console.print("waiting until no work is left")

    def rests(client: httpx.Client) -> bool:
        faults.mend()
        return all(map(ready, urls)) and load.drained(client)

    with open_client(urls[0], timeout=600) as client:
        settled = eventually(lambda: rests(client), RECOVERY)
        first = load.scrub(client, repair=True)
        settled = settled and eventually(lambda: rests(client), RECOVERY)
        second = load.scrub(client, repair=True)
        lost = load.lost(client) + load.failures + ([] if settled else ["some work never ended"])
    for what in lost:
        console.print(what, style="red", markup=False)
    console.print(
        f"answers: {dict(load.counts)}; killed: {dict(faults.counts)};"
        f" first scrub: {first or 'clean'}",
        markup=False,
    )
    return {
        "acknowledged": load.acknowledged,
        "faults": faults.counts.total(),
        "lost": len(lost),
        "scrub_repairs_first_pass": sum(first.values()),
        "scrub_repairs_second_pass": sum(second.values()),
    }


def ready(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    return False


def _columns() -> tuple[Any, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


if __name__ == "__main__":
    raise SystemExit(main())
