"""The process is killed before and after every write to every store; then it starts again, and everything must be right."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from uuid import UUID

import pytest

from models.weights_file import WeightsFile
from tests.crash.harness import (
    Crashed,
    Installation,
    Journal,
    Running,
    check,
    drained,
    models,
    scrubbed,
)
from tests.crash.service import POLLED, WRITES, Kill, tiny_weights
from tests.support.images import encoded, part_of
from tests.support.service import eventually

IMAGES = [encoded(part_of("coffee", seed, (96, 72)), "PNG") for seed in range(6)]
MOST = 1  # of the calls of one name
SECOND = tiny_weights("second")
NEW = WeightsFile.parse(SECOND).version
UNREACHED = {  # by these steps, each for its reason
    "metadata.renew_reservation",  # an upload that takes longer than a third of its lease
    "metadata.abandon_reservation",  # a store that fails
    "metadata.release_embedding",
    "metadata.retry_embedding",  # an image that cannot be embedded
    "metadata.requeue_dead_letters",
    "metadata.expire_reservations",  # only when it recovers
    "registry.register_active",  # the first start
}
Step = Callable[[Journal, Running], None]


def uploads(journal: Journal, running: Running) -> None:
    journal.upload(running, IMAGES[2], n=1)
    journal.upload(running, IMAGES[2], n=2)  # it is there already
    journal.upload(running, IMAGES[3], collection="new")


def changes(journal: Journal, running: Running) -> None:
    journal.change(running, IMAGES[0], n=7)
    journal.change(running, IMAGES[0], n=8)


def deletions(journal: Journal, running: Running) -> None:
    journal.delete(running, IMAGES[0])
    journal.upload(running, IMAGES[0], n=9)  # another master with the same bytes
    ended(running, 0.3)  # the worker removes what is left


def collections(journal: Journal, running: Running) -> None:
    journal.delete_collection(running, "animals")
    journal.upload(running, IMAGES[1], collection="animals")
    journal.empty(running, "default")
    ended(running, 0.3)


def building(journal: Journal, running: Running) -> None:
    journal.do(
        running, "POST", "/admin/models", (201,), files={"weights": ("second.safetensors", SECOND)}
    )
    journal.do(running, "POST", f"/admin/models/{NEW}/start", (202,))
    journal.upload(running, IMAGES[4])
    assert eventually(lambda: complete(running), 20)


def switching(journal: Journal, running: Running) -> None:
    (old,) = (model["version"] for model in models(running) if model["state"] == "active")
    for version in (NEW, old):
        journal.do(running, "POST", f"/admin/models/{version}/activate", (200,))
    journal.upload(running, IMAGES[4])
    journal.do(running, "POST", f"/admin/models/{NEW}/retire", (202, 409))
    ended(running, 0.3)


def complete(running: Running) -> bool:
    """Whether all masters have vectors of the new model."""
    model = next(model for model in models(running) if model["version"] == NEW)
    return bool(model["indexed"] == model["masters"])


def repairs(journal: Journal, running: Running) -> None:
    """Bytes and a vector that were lost, an object too many; the first come back by another upload."""
    image = journal.image(IMAGES[0], "default")
    (path,) = (running.directory / "objects" / "masters").rglob(f"{min(image.ids)}.*")
    path.rename(path.with_name(f"{UUID(int=1)}.png"))
    image.present = {True, False}
    with (
        closing(sqlite3.connect(running.directory / "lookalike.db", timeout=10)) as database,
        database,
    ):
        database.execute("DELETE FROM vectors WHERE master_id <> ?", (UUID(min(image.ids)).bytes,))
    journal.do(running, "POST", "/admin/scrub", (200,), json={"repair": True})
    mended(journal, running)


def nothing(journal: Journal, running: Running) -> None:
    pass


def mended(journal: Journal, running: Running) -> None:
    journal.upload(running, IMAGES[0], n=0)


def ended(running: Running, seconds: float) -> bool:
    """Whether it was killed within that time."""
    return eventually(lambda: not running.process.is_alive(), seconds)


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (uploads, changes, deletions, collections, building, switching, repairs)
}
FINISHED: dict[str, Step] = {"repairs": mended}  # what comes after it, however far it came


@dataclass(frozen=True)
class Base:
    """An installation with something in it, copied for every kill, and what was acknowledged by it."""

    directory: Path
    journal: Journal


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[[str], Base]:
    """For a step: one that switches models finds another one built."""
    return lambda name: begun(tmp_path / f"base-{name}", built=name == "switching")


def begun(directory: Path, *, built: bool) -> Base:
    journal = Journal()
    with Installation(directory).running() as running:
        journal.upload(running, IMAGES[0], n=0)
        journal.upload(running, IMAGES[1], collection="animals")
        journal.upload(running, IMAGES[5], collection="animals")
        if built:
            building(journal, running)
        drained(running, directory)
    return Base(directory, journal)


def killed(
    base: Base, directory: Path, step: Step, kill: Kill | None, order: str = "right"
) -> tuple[Installation, Journal]:
    """Run a step in a copy of the installation until the process is killed, or is through."""
    shutil.copytree(base.directory, directory)
    installation, journal = Installation(directory, order), deepcopy(base.journal)
    with suppress(Crashed), installation.running(kill) as running:
        running.arm()
        step(journal, running)
    return installation, journal


def recovered(installation: Installation, journal: Journal, finish: Step) -> dict[str, int]:
    """Start again, drain, check, do again what was under way, check; what the first scrub found."""
    with installation.running() as running:
        drained(running, installation.directory)
        found = scrubbed(running)
        drained(running, installation.directory)
        check(journal, running, installation.directory)
        journal.retry(running)
        finish(journal, running)
        drained(running, installation.directory)
        assert scrubbed(running) == {}, "I5: a second scrub finds something"
        check(journal, running, installation.directory)
    return found


def points(base: Base, directory: Path, step: Step) -> list[Kill]:
    """Every write of the step, counted in a run without a kill."""
    installation, journal = killed(base, directory, step, None)
    assert journal.pending is None
    found = []
    for name, count in installation.writes().items():
        moments = ("after",) if name.partition(".")[2] in POLLED else ("before", "after")
        if name == "objects.put":
            moments = ("before", "during", "after")
        found += [
            Kill(name, number, moment)
            for number, moment in product(range(1, min(count, MOST) + 1), moments)
        ]
    return found


@pytest.mark.parametrize("name", STEPS)
def test_killed_at_every_write(name: str, make_base: Callable[[str], Base], tmp_path: Path) -> None:
    base, step = make_base(name), STEPS[name]
    for kill in points(base, tmp_path / "reference", step):
        with said(kill):
            installation, journal = killed(base, tmp_path / str(kill).replace(" ", "-"), step, kill)
            found = recovered(installation, journal, FINISHED.get(name, nothing))
            assert name == "repairs" or found == {}, (
                "the order of writes leaves nothing for a scrub"
            )


@pytest.mark.parametrize("name", STEPS)
def test_killed_again_while_it_recovers(
    name: str, make_base: Callable[[str], Base], tmp_path: Path
) -> None:
    chance, base, step = random.Random(name), make_base(name), STEPS[name]
    for number, kill in enumerate(chance.sample(points(base, tmp_path / "reference", step), 2)):
        again = Kill("any", chance.randint(1, 8), chance.choice(["before", "after"]))
        with said((kill, again)):
            installation, journal = killed(base, tmp_path / f"{number}", step, kill)
            with suppress(Crashed), installation.running(again, armed=True) as running:
                ended(running, 1.5)
            found = recovered(installation, journal, FINISHED.get(name, nothing))
            assert name == "repairs" or found == {}, (
                "the order of writes leaves nothing for a scrub"
            )


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ("row before object", "uploads"),
        ("object before row", "deletions"),
        ("row forgotten first", "deletions"),
        ("marked before written", "uploads"),
    ],
)
def test_a_wrong_order_of_writes_is_found(
    order: str, name: str, make_base: Callable[[str], Base], tmp_path: Path
) -> None:
    """The harness can fail: with two writes swapped there is a kill that it catches."""
    base = make_base(name)
    for kill in points(base, tmp_path / "reference", STEPS[name]):
        try:
            installation, journal = killed(
                base, tmp_path / str(kill).replace(" ", "-"), STEPS[name], kill, order
            )
            if recovered(installation, journal, nothing):
                return
        except AssertionError as error:
            if str(error).startswith("I"):  # an invariant, not a service that does not start
                return
            raise
    raise AssertionError(f"{order}: no kill shows it")


def test_every_kind_of_write_is_among_them(
    make_base: Callable[[str], Base], tmp_path: Path
) -> None:
    reached = {
        kill.write
        for name, step in STEPS.items()
        for kill in points(make_base(name), tmp_path / name, step)
    }
    assert {
        f"{store}.{write}" for store, writes in WRITES.items() for write in writes
    } - reached == UNREACHED


@contextmanager
def said(what: object) -> Iterator[None]:
    """Which kill it was that a failure belongs to."""
    try:
        yield
    except (AssertionError, Crashed) as error:
        raise AssertionError(f"{what}: {error}") from error
