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
from storage.records import LOOK
from tests.crash.invariants import check_invariants, drain, drain_until
from tests.crash.journal import Journal
from tests.crash.operations import DirectOperations, Operations
from tests.crash.process import Child, Crashed, fork_child, run_on
from tests.crash.watch import POLLED, Kill
from tests.support.images import encoded, part_of
from tests.support.metadata import PHONE_EXIF
from tests.support.service import eventually
from tests.support.tiny_network import tiny_weights

IMAGES = [
    encoded(part_of("coffee", seed, (96, 72)), "PNG", exif=PHONE_EXIF if seed % 2 == 0 else None)
    for seed in range(6)
]
WORDS = "words"
WORDS_WEIGHTS = tiny_weights("words")
SECOND = {space: tiny_weights(f"second of {space}") for space in (LOOK, WORDS)}
NEW = {space: WeightsFile.parse(weights).version for space, weights in SECOND.items()}


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


def matching(journal: Journal, setting: Setting) -> None:
    """Change and then delete all masters of a collection by a filter."""
    journal.change_matching(setting.operations, "animals", n=7)
    setting.drain()
    journal.delete_matching(setting.operations, "animals")
    setting.drain()


def undoing(journal: Journal, setting: Setting) -> None:
    """Delete masters by a filter, upload one of them again, undo it, and let the time end."""
    journal.remove_matching(setting.operations, "animals")
    setting.drain()
    journal.upload(setting.operations, IMAGES[1], collection="animals", n=8)
    journal.undo(setting.operations, "animals")
    setting.drain()
    connection = sqlite3.connect(setting.directory / "lookalike.db", timeout=10)
    with closing(connection) as database, database:
        database.execute("UPDATE deletions SET undo_until = 0")
    setting.drain()


def resolving(journal: Journal, setting: Setting) -> None:
    """Keep one of two masters with the attributes of both; then undo it."""
    journal.resolve(setting.operations, (IMAGES[1], IMAGES[5]), "animals")
    setting.drain()
    journal.undo_resolving(setting.operations, (IMAGES[1], IMAGES[5]), "animals")
    setting.drain()


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
    build(journal, setting, LOOK)


def building_words(journal: Journal, setting: Setting) -> None:
    build(journal, setting, WORDS)


def build(journal: Journal, setting: Setting, space: str) -> None:
    journal.do(setting.operations, lambda target: target.add_model(SECOND[space]))
    journal.do(
        setting.operations,
        lambda target: expect(target.start_model(NEW[space], space), "started"),
    )
    journal.upload(setting.operations, IMAGES[4])
    assert eventually(lambda: is_complete(setting.operations, NEW[space]), 20)


def switching(journal: Journal, setting: Setting) -> None:
    switch(journal, setting, LOOK)


def switching_words(journal: Journal, setting: Setting) -> None:
    switch(journal, setting, WORDS)


def switch(journal: Journal, setting: Setting, space: str) -> None:
    for version in (NEW[space], find_active(setting.operations, space)):
        journal.do(
            setting.operations, lambda target, version=version: target.activate_model(version)
        )  # type: ignore[misc]
    journal.upload(setting.operations, IMAGES[4])
    journal.do(setting.operations, lambda target: target.retire_model(NEW[space]))
    setting.drain()


def removing(journal: Journal, setting: Setting) -> None:
    """Remove the space `words`, and upload beside it."""
    version = find_active(setting.operations, WORDS)
    journal.do(setting.operations, lambda target: target.retire_model(version))
    journal.upload(setting.operations, IMAGES[4])
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
    setting.drain()


def reading(journal: Journal, setting: Setting) -> None:
    """Read the capture metadata of all files, as after an upgrade; then read it again."""
    connection = sqlite3.connect(setting.directory / "lookalike.db", timeout=10)
    with closing(connection) as database, database:
        database.execute(
            "UPDATE masters SET capture = NULL, captured_at = NULL, capture_reader = 0"
        )
        database.execute(
            "UPDATE vectors SET attributes ="
            " (SELECT attributes FROM masters WHERE masters.id = vectors.master_id)"
        )
    setting.drain()
    journal.do(setting.operations, lambda target: target.reread())
    setting.drain()


def bring_back(journal: Journal, operations: Operations) -> None:
    journal.upload(operations, IMAGES[0], n=0)


def is_complete(operations: Operations, version: str) -> bool:
    """Report whether all masters have vectors of a model."""
    return next(model.complete for model in operations.models() if model.version == version)


def find_active(operations: Operations, space: str) -> str:
    active = [model for model in operations.models() if model.state == "active"]
    return next(model.version for model in active if model.space == space)


def create_words(operations: Operations, weights: bytes = WORDS_WEIGHTS) -> None:
    """Create the space `words`, and make its first version active."""
    version = operations.add_model(weights)
    expect(operations.start_model(version, WORDS), "started")
    assert eventually(lambda: is_complete(operations, version), 20)
    expect(operations.activate_model(version), "active")


def expect(outcome: str, expected: str) -> None:
    assert outcome == expected


Scenario = Callable[[Journal, Setting], None]
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        uploads,
        changes,
        matching,
        undoing,
        resolving,
        deletions,
        collections,
        building,
        building_words,
        switching,
        switching_words,
        removing,
        repairs,
        reading,
    )
}


@dataclass(frozen=True)
class Base:
    """An installation that is copied for every kill, and the journal of what it acknowledged."""

    directory: Path
    journal: Journal


def make_base(directory: Path, built: str | None) -> Base:
    """Make an installation with three masters and two spaces.

    The space ``built`` has a second model to switch to.
    """
    journal = Journal()
    with run_on(directory) as services:
        operations = DirectOperations(services)
        journal.upload(operations, IMAGES[0], n=0)
        journal.upload(operations, IMAGES[1], collection="animals", a=1)
        journal.upload(operations, IMAGES[5], collection="animals", b=1)
        create_words(operations)
        if built:
            build(journal, Setting(directory, operations), built)
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
