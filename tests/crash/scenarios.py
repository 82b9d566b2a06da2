"""The scenarios that are killed at each of their writes, and the installations they start with."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from models.weights_file import WeightsFile
from tests.crash.invariants import check_invariants, drain, drain_until
from tests.crash.journal import Journal
from tests.crash.operations import DirectOperations, Operations
from tests.crash.process import Child, Crashed, fork_child, run_on
from tests.crash.watch import POLLED, Kill
from tests.support.images import encoded, part_of
from tests.support.service import eventually
from tests.support.tiny_network import tiny_weights

IMAGES = [encoded(part_of("coffee", seed, (96, 72)), "PNG") for seed in range(6)]
SECOND = tiny_weights("second")
NEW = WeightsFile.parse(SECOND).version


@dataclass
class Setting:
    """What a scenario works on. ``stopped`` reports whether the process was killed."""

    directory: Path
    operations: Operations
    stopped: Callable[[], bool] = lambda: False

    def drain(self) -> None:
        """Wait until the worker has no deletion or embedding left, or was killed."""
        drain_until(self.directory, self.stopped)


def uploads(journal: Journal, setting: Setting) -> None:
    journal.upload(setting.operations, IMAGES[2], n=1)
    journal.upload(setting.operations, IMAGES[2], n=2)  # it is stored already
    journal.upload(setting.operations, IMAGES[3], collection="new")


def changes(journal: Journal, setting: Setting) -> None:
    journal.change(setting.operations, IMAGES[0], n=7)
    journal.change(setting.operations, IMAGES[0], n=8)


def deletions(journal: Journal, setting: Setting) -> None:
    journal.delete(setting.operations, IMAGES[0])
    journal.upload(setting.operations, IMAGES[0], n=9)  # another master with the same bytes
    setting.drain()


def collections(journal: Journal, setting: Setting) -> None:
    journal.delete_collection(setting.operations, "animals")
    journal.upload(setting.operations, IMAGES[1], collection="animals")
    journal.empty_collection(setting.operations, "default")
    setting.drain()


def building(journal: Journal, setting: Setting) -> None:
    journal.do(setting.operations, lambda target: target.add_model(SECOND))
    journal.do(setting.operations, lambda target: expect(target.start_model(NEW), "started"))
    journal.upload(setting.operations, IMAGES[4])
    assert eventually(lambda: is_complete(setting.operations), 20)


def switching(journal: Journal, setting: Setting) -> None:
    models = setting.operations.models()
    (old,) = (model.version for model in models if model.state == "active")
    for version in (NEW, old):
        journal.do(
            setting.operations, lambda target, version=version: target.activate_model(version)
        )  # type: ignore[misc]
    journal.upload(setting.operations, IMAGES[4])
    journal.do(setting.operations, lambda target: target.retire_model(NEW))
    setting.drain()


def repairs(journal: Journal, setting: Setting) -> None:
    """Repair lost bytes, a lost vector and an unknown object; then upload the lost bytes again."""
    image = journal.image(IMAGES[0])
    (path,) = (setting.directory / "objects" / "masters").rglob(f"{min(image.ids)}.*")
    path.rename(path.with_name(f"{UUID(int=1)}.png"))
    image.present = {True, False}
    connection = sqlite3.connect(setting.directory / "lookalike.db", timeout=10)
    with closing(connection) as database, database:
        others = "DELETE FROM vectors WHERE master_id <> ?"
        database.execute(others, (UUID(min(image.ids)).bytes,))
    journal.do(setting.operations, lambda target: target.scrub(repair=True))
    bring_back(journal, setting.operations)


def bring_back(journal: Journal, operations: Operations) -> None:
    journal.upload(operations, IMAGES[0], n=0)


def is_complete(operations: Operations) -> bool:
    """Report whether all masters have vectors of the new model."""
    return next(model.complete for model in operations.models() if model.version == NEW)


def expect(outcome: str, expected: str) -> None:
    assert outcome == expected


Scenario = Callable[[Journal, Setting], None]
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (uploads, changes, deletions, collections, building, switching, repairs)
}


@dataclass(frozen=True)
class Base:
    """An installation that is copied for every kill, and the journal of what it acknowledged."""

    directory: Path
    journal: Journal


def make_base(directory: Path, *, built: bool) -> Base:
    """Make an installation with three masters and, if ``built``, a second model to switch to."""
    journal = Journal()
    with run_on(directory) as services:
        operations = DirectOperations(services)
        journal.upload(operations, IMAGES[0], n=0)
        journal.upload(operations, IMAGES[1], collection="animals")
        journal.upload(operations, IMAGES[5], collection="animals")
        if built:
            building(journal, Setting(directory, operations))
        drain(directory)
    return Base(directory, journal)


def run_killed(
    base: Base,
    directory: Path,
    scenario: Scenario,
    kill: Kill | None,
    *,
    mistake: str = "none",
    http: bool = False,
) -> Journal:
    """Run a scenario on a copy of the installation until it is killed or ends."""
    shutil.copytree(base.directory, directory)
    journal = deepcopy(base.journal)
    with suppress(Crashed), fork_child(directory, kill, mistake=mistake, http=http) as child:
        child.arm()
        scenario(journal, Setting(directory, child.operations, lambda: has_ended(child)))
    return journal


def has_ended(child: Child) -> bool:
    return child.ended_within(0)


def recover(directory: Path, journal: Journal, *, bring_bytes_back: bool) -> dict[str, int]:
    """Restart, drain, scrub and check; retry the pending operation; drain, scrub and check again.

    Returns what the first scrub found.
    """
    with run_on(directory) as services:
        operations = DirectOperations(services)
        drain(directory)
        found = operations.scrub(repair=True)
        drain(directory)
        check_invariants(journal, operations, directory)
        journal.retry(operations)
        if bring_bytes_back:
            bring_back(journal, operations)
        drain(directory)
        assert operations.scrub(repair=True) == {}, "I5: a second scrub finds something"
        check_invariants(journal, operations, directory)
    return found


def writes_of(base: Base, directory: Path, scenario: Scenario) -> set[str]:
    """Return the names of the writes of an uninterrupted run."""
    journal = run_killed(base, directory, scenario, None)
    assert journal.pending is None, "the scenario did not come to its end"
    return set((directory / "writes.log").read_text().split())


def kills_at(write: str) -> list[Kill]:
    """Return every kill at the first call of a write."""
    moments: tuple[str, ...] = ("before", "after")
    if write.partition(".")[2] in POLLED:
        moments = ("after",)
    if write == "objects.put":
        moments = ("before", "during", "after")
    return [Kill(write, 1, moment) for moment in moments]  # type: ignore[arg-type]
