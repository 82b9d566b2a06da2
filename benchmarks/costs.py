"""Where the time of uploads goes: stages in the service, and the processor time of each process."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from benchmarks.reporting import make_table
from benchmarks.service import Client, ServiceProcess

_STAGE = re.compile(r'^lookalike_stage_seconds_(sum|count)\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")  # of the times in /proc, a second


@dataclass
class Costs:
    """What a number of images cost. Times are in seconds, for all images together."""

    images: int
    stages: dict[str, tuple[float, int]] = field(default_factory=dict)  # elapsed time, times
    processor: dict[str, tuple[float, float]] = field(default_factory=dict)  # user, system

    def table(self, title: str) -> Table:
        """Return a table of milliseconds for each image."""
        table = make_table(title, "an image", "times", "ms", "user CPU ms", "system CPU ms")

        def show(seconds: float) -> str:
            return f"{1000 * seconds / self.images:.2f}"

        for name, (seconds, times) in sorted(self.stages.items(), key=lambda stage: -stage[1][0]):
            table.add_row(f"stage {name}", f"{times / self.images:.2f}", show(seconds))
        for name, (user, system) in self.processor.items():
            table.add_row(name, "", "", show(user), show(system))
        return table


@contextmanager
def measure_costs(service: ServiceProcess, images: int) -> Iterator[Costs]:
    """Measure what the block costs this process and the service with its child processes."""
    costs = Costs(images)
    stages, processor = _read_stages(service.port), _read_processor(service)
    yield costs
    for name, (seconds, times) in _read_stages(service.port).items():
        before = stages.get(name, (0.0, 0))
        if times > before[1]:
            costs.stages[name] = seconds - before[0], times - before[1]
    for name, (user, system) in _read_processor(service).items():
        earlier = processor.get(name, (0.0, 0.0))
        costs.processor[name] = user - earlier[0], system - earlier[1]


def _read_stages(port: int) -> dict[str, tuple[float, int]]:
    """Return the elapsed seconds of each stage of the service so far, and how often it ran."""
    found: dict[str, dict[str, float]] = {}
    for kind, stage, value in _STAGE.findall(Client(port).get("/metrics").decode()):
        found.setdefault(stage, {})[kind] = float(value)
    return {stage: (values["sum"], int(values["count"])) for stage, values in found.items()}


def _read_processor(service: ServiceProcess) -> dict[str, tuple[float, float]]:
    """Return user and system time in seconds of the service, its decoders and this process."""
    decoders = [_times_of(decoder) for decoder in service.decoders()]
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "service": _times_of(service.process.pid),
        "decoders": (
            sum(user for user, _ in decoders),
            sum(system for _, system in decoders),
        ),
        "clients": (own.ru_utime, own.ru_stime),
    }


def _times_of(pid: int) -> tuple[float, float]:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) / _TICKS, int(after_name[12]) / _TICKS
