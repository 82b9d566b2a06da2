"""The process is killed in and around a commit that several operations share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NoReturn
from unittest.mock import patch

import pytest

from app.errors import Conflict
from app.logs import configure_logging
from storage.group_commit import GroupCommit
from tests.crash.journal import Journal
from tests.crash.operations import DirectOperations
from tests.crash.process import run_on
from tests.crash.scenarios import IMAGES, Base, recover
from tests.support.processes import forks
from tests.support.service import eventually

Moment = Literal["inside", "before", "after"]
UPLOADED, CHANGED, DELETED = IMAGES[2:5], IMAGES[0], IMAGES[1]
_SHARING = 3  # blocks in a transaction that is killed
_PATIENCE = 0.3  # seconds that a block waits for the next one


def kill_at(moment: Moment, number: int) -> None:
    """Let blocks wait for one another; kill the process at the ``number``-th shared commit."""
    leave, finish, seen = GroupCommit._leave, GroupCommit._finish, set[int]()

    def leave_late(self: GroupCommit, group: Any) -> None:
        eventually(lambda: self._waiting > 0, _PATIENCE)
        if group.blocks == _SHARING:
            seen.add(id(group))
            if moment == "inside" and len(seen) == number:
                end()
        leave(self, group)

    def finish_and_die(self: GroupCommit, group: Any, error: BaseException | None) -> None:
        if group.blocks >= _SHARING and len(seen) == number:
            if moment == "before":
                end()
            group.callbacks.insert(0, (1, end))
        finish(self, group, error)

    GroupCommit._leave = leave_late  # type: ignore[method-assign]
    GroupCommit._finish = finish_and_die  # type: ignore[method-assign]


def end() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def run(directory: Path, changed: str, deleted: str, moment: Moment, number: int) -> None:
    """Run the operations at the same time, and log each that is acknowledged."""
    configure_logging("error")
    log = os.open(directory / "acknowledged.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with run_on(directory) as services, ThreadPoolExecutor(8) as pool:
        operations = DirectOperations(services)

        def acknowledge(name: str, operation: Callable[[], object]) -> None:
            os.write(log, f"{name} {operation()}\n".encode())

        kill_at(moment, number)
        calls: dict[str, Callable[[], object]] = {
            "change": lambda: operations.change(changed, {"n": 7}),
            "delete": lambda: operations.delete(deleted),
        }
        for position, content in enumerate(UPLOADED):
            calls[f"upload{position}"] = lambda content=content: (  # type: ignore[misc]
                operations.upload(content, "default", {"n": 1})[0].id
            )
        for future in [pool.submit(acknowledge, *call) for call in calls.items()]:
            future.result()


def record(journal: Journal, acknowledged: dict[str, str]) -> None:
    """Record in the journal what the operations have done or may have done."""
    for position, content in enumerate(UPLOADED):
        image, id_ = journal.image(content), acknowledged.get(f"upload{position}")
        image.attributes = [{"n": 1}]
        image.present = {True} if id_ else {True, False}
        image.ids = {id_} if id_ else set()
    changed = journal.image(CHANGED)
    changed.attributes = [{"n": 7}] if "change" in acknowledged else [{"n": 7}, {"n": 0}]
    deleted = journal.image(DELETED, "animals")
    deleted.present = {False, True}
    if "delete" in acknowledged:
        journal.dead |= deleted.ids
        deleted.present, deleted.ids, deleted.attributes = {False}, set(), []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("moment", ["inside", "before", "after"])
def test_killed_at_a_shared_commit(
    moment: Moment, number: int, base_of: Callable[[str], Base], tmp_path: Path
) -> None:
    directory, base = tmp_path / "data", base_of("uploads")
    shutil.copytree(base.directory, directory)
    journal = deepcopy(base.journal)
    (changed,), (deleted,) = journal.image(CHANGED).ids, journal.image(DELETED, "animals").ids
    process = forks.Process(target=run, args=(directory, changed, deleted, moment, number))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, "no commit was shared"
    lines = (directory / "acknowledged.log").read_text().splitlines()
    record(journal, dict(line.split(" ") for line in lines))
    assert recover(directory, journal, bring_bytes_back=False) == {}


def test_a_neighbour_that_fails_does_not_fail_the_others(
    base_of: Callable[[str], Base], tmp_path: Path
) -> None:
    """Uploads share commits with insertions of a name that is taken."""
    directory, base = tmp_path / "data", base_of("uploads")
    shutil.copytree(base.directory, directory)
    journal = deepcopy(base.journal)
    with (
        run_on(directory) as services,
        ThreadPoolExecutor(8) as pool,
        patch.object(GroupCommit, "_leave", leave_in_company),
    ):
        operations = DirectOperations(services)
        create = services.collections.create_collection
        failing = [pool.submit(create, "animals") for _ in range(3)]
        uploads = [
            pool.submit(journal.upload, operations, content, "default", n=1) for content in UPLOADED
        ]
        assert [future.exception(30) for future in uploads] == [None] * len(uploads)
        assert all(isinstance(future.exception(30), Conflict) for future in failing)
    assert recover(directory, journal, bring_bytes_back=False) == {}


_leave = GroupCommit._leave


def leave_in_company(self: GroupCommit, group: Any) -> None:
    eventually(lambda: self._waiting > 0, 0.05)
    _leave(self, group)
