"""The process is killed around every write to every store; a restart repairs everything."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.crash import invariants
from tests.crash.invariants import bring_expiry_forward, drain_until
from tests.crash.kill_points import (
    ALL_WRITES,
    KILLS,
    MOMENTS,
    OCCASIONAL,
    RENEWALS,
    UNLISTED,
    UNREACHED,
    WRITES_OF,
)
from tests.crash.process import LEASE, Crashed, fork_child
from tests.crash.scenarios import SCENARIOS, Base, recover, run_killed, writes_of
from tests.crash.watch import Kill

BaseOf = Callable[[str], Base]


def kills_while_recovering() -> list[tuple[str, Kill, Kill]]:
    """Combine one or two kills of each scenario with one at a first write of the restart."""
    chosen = []
    for name, kills in KILLS.items():
        draw = random.Random(name)
        for kill in draw.sample(kills, 1 if name in MOMENTS else 2):
            again = Kill("any", draw.randint(1, 8), draw.choice(["before", "after"]))  # type: ignore[arg-type]
            chosen.append((name, kill, again))
    return chosen


def assert_restart_is_right(name: str, directory: Path, journal: object) -> None:
    found = recover(directory, journal, bring_bytes_back=name == "repairs")  # type: ignore[arg-type]
    assert name == "repairs" or found == {}, "the order of writes leaves nothing for a scrub"


@pytest.mark.parametrize(
    ("name", "kill"), [(name, kill) for name, kills in KILLS.items() for kill in kills], ids=str
)
def test_killed_at_a_write(name: str, kill: Kill, base_of: BaseOf, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    journal = run_killed(base_of(name), directory, SCENARIOS[name], kill)
    assert_restart_is_right(name, directory, journal)


@pytest.mark.parametrize(
    ("name", "kill"),
    [
        ("uploads", Kill("objects.put", 1, "during")),
        ("uploads", Kill("metadata.commit_stored", 1, "after")),
        ("changes", Kill("metadata.update_master", 1, "after")),
        ("matching", Kill("metadata.update_masters", 1, "after")),
        ("matching", Kill("metadata.delete_masters", 1, "after")),
        ("undoing", Kill("metadata.remove_masters", 1, "after")),
        ("undoing", Kill("metadata.restore_masters", 1, "after")),
        ("deletions", Kill("metadata.delete_master", 1, "after")),
        ("collections", Kill("metadata.empty_collection", 1, "before")),
        ("building", Kill("registry.start_building", 1, "after")),
        ("switching_words", Kill("registry.activate_model", 1, "after")),
        ("repairs", Kill("objects.delete", 1, "before")),
    ],
    ids=str,
)
def test_killed_while_it_answers_over_http(
    name: str, kill: Kill, base_of: BaseOf, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    journal = run_killed(base_of(name), directory, SCENARIOS[name], kill, http=True)
    assert_restart_is_right(name, directory, journal)


@pytest.mark.parametrize(("name", "kill", "again"), kills_while_recovering(), ids=str)
def test_killed_again_while_it_recovers(
    name: str, kill: Kill, again: Kill, base_of: BaseOf, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    journal = run_killed(base_of(name), directory, SCENARIOS[name], kill)
    with suppress(Crashed), fork_child(directory, again, armed=True) as child:
        drain_until(directory, lambda: child.ended_within(0))
        child.ended_within(0.3)  # the first writes of a worker that has nothing left to do
    assert_restart_is_right(name, directory, journal)


@pytest.mark.parametrize(
    ("mistake", "name", "kill"),
    [
        ("row before object", "uploads", Kill("objects.put", 1, "before")),
        ("object before row", "deletions", Kill("metadata.delete_master", 1, "before")),
        ("row forgotten first", "deletions", Kill("metadata.forget_master", 1, "after")),
        # (an upload on the embedded stores marks and writes in one transaction)
        ("marked before written", "changes", Kill("metadata.mark_indexed", 1, "after")),
    ],
    ids=str,
)
def test_a_wrong_order_of_writes_is_found(
    mistake: str,
    name: str,
    kill: Kill,
    base_of: BaseOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prove that the tests can fail: the kill of a test above reveals that writes are swapped."""
    assert kill in KILLS[name]
    monkeypatch.setattr(invariants, "DRAIN_SECONDS", 5.0)  # a lost object keeps the worker busy
    directory = tmp_path / "data"
    journal = run_killed(base_of(name), directory, SCENARIOS[name], kill, mistake=mistake)
    bring_expiry_forward(directory, LEASE)
    try:
        found = recover(directory, journal, bring_bytes_back=False)
    except AssertionError as error:
        if not re.match(r"I\d", str(error)):  # not an invariant failed, but the start
            raise
    else:
        assert found, f"{mistake}: the kill does not show it"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_list_names_the_writes_of_a_run(name: str, base_of: BaseOf, tmp_path: Path) -> None:
    written = writes_of(base_of(name), tmp_path / "data", SCENARIOS[name])
    listed = set(WRITES_OF[name])
    assert written - listed - RENEWALS <= UNLISTED.get(name, set())
    assert listed - written <= OCCASIONAL.get(name, set())


def test_every_kind_of_write_is_killed_or_has_a_reason() -> None:
    killed = {kill.write for kills in KILLS.values() for kill in kills}
    assert ALL_WRITES - killed == UNREACHED
