"""Searches that arrive during a pass share the next one, and no error of one reaches another."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from storage import shared_passes
from storage.shared_passes import SharedPasses


class Passes:
    """Records which queries were compared together. The first pass waits until it may go on."""

    def __init__(self) -> None:
        self.together: list[list[Any]] = []
        self.entered, self.proceed = threading.Event(), threading.Event()
        self.bad: object = None

    def compare(self, queries: Sequence[Any]) -> None:
        self.together.append(list(queries))
        if not self.entered.is_set():
            self.entered.set()
            assert self.proceed.wait(20)
        if self.bad in queries:
            raise ValueError("bad")


def run_during_a_pass(
    passes: Passes, shared: SharedPasses, numbers: Sequence[int]
) -> dict[int, BaseException | None]:
    """Run query 0, and the others in order while it runs; return the errors by number."""
    outcomes: dict[int, BaseException | None] = {}

    def run(number: int) -> None:
        try:
            shared.run(cast("Any", number), cast("Any", passes.compare))
            outcomes[number] = None
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=[number]) for number in (0, *numbers)]
    threads[0].start()
    assert passes.entered.wait(20)
    for place, thread in enumerate(threads[1:], 1):
        thread.start()
        wait_until_waiting(shared, place)
    passes.proceed.set()
    for thread in threads:
        thread.join(20)
    return outcomes


def wait_until_waiting(shared: SharedPasses, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(shared._waiting) < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_a_lone_query_has_a_pass_of_its_own_at_once() -> None:
    passes, shared = Passes(), SharedPasses()
    passes.proceed.set()
    for number in range(3):
        shared.run(cast("Any", number), cast("Any", passes.compare))
    assert passes.together == [[0], [1], [2]]


def test_queries_that_arrive_during_a_pass_share_the_next_one() -> None:
    passes, shared = Passes(), SharedPasses()
    assert run_during_a_pass(passes, shared, [1, 2, 3]) == dict.fromkeys(range(4))
    assert passes.together == [[0], [1, 2, 3]]


def test_a_pass_has_a_bounded_number_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_passes, "_MOST", 2)
    passes, shared = Passes(), SharedPasses()
    assert run_during_a_pass(passes, shared, [1, 2, 3]) == dict.fromkeys(range(4))
    assert passes.together == [[0], [1, 2], [3]]


def test_an_error_of_one_query_does_not_reach_those_that_share_its_pass() -> None:
    passes, shared = Passes(), SharedPasses()
    passes.bad = 2
    outcomes = run_during_a_pass(passes, shared, [1, 2, 3])
    assert {number for number, error in outcomes.items() if error} == {2}
    assert isinstance(outcomes[2], ValueError)
    shared.run(cast("Any", 4), cast("Any", passes.compare))
    assert passes.together[-1] == [4]


def test_an_interrupted_pass_is_an_error_for_all_that_share_it() -> None:
    """None of them may take what was compared before the interruption for its answer."""
    shared, seen = SharedPasses(), []
    first, proceed = threading.Event(), threading.Event()

    def compare(queries: Sequence[Any]) -> None:
        first.set()
        assert proceed.wait(20)
        if len(queries) > 1:
            raise KeyboardInterrupt

    def run(number: int) -> None:
        try:
            shared.run(cast("Any", number), cast("Any", compare))
        except BaseException as error:
            seen.append((number, type(error)))

    threads = [threading.Thread(target=run, args=[number]) for number in range(3)]
    threads[0].start()
    assert first.wait(20)
    for place, thread in enumerate(threads[1:], 1):
        thread.start()
        wait_until_waiting(shared, place)
    proceed.set()
    for thread in threads:
        thread.join(20)
    assert sorted(seen) == [(1, KeyboardInterrupt), (2, KeyboardInterrupt)]
    shared.run(cast("Any", 4), cast("Any", lambda queries: None))
