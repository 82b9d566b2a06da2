"""Threads that share calls: what they send together, and what fails alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from storage.shared_calls import SharedCalls
from tests.support.service import eventually


class Calls:
    """Records calls, and holds the first one until ``release`` is called."""

    def __init__(self) -> None:
        self.made: list[list[str]] = []
        self.error: Exception | None = None  # of calls that hold "bad"
        self.shared = SharedCalls(self.answer, patience=60.0)
        self._held = threading.Event()
        self._pool = ThreadPoolExecutor(20)

    def answer(self, items: Sequence[str]) -> list[str]:
        self.made.append(list(items))
        if items == ["first"]:
            assert self._held.wait(10)
        if self.error is not None and "bad" in items:
            raise self.error
        return [item.upper() for item in items]

    def send(self, item: str, group: str = "", key: str = "") -> Future[str]:
        """Send an item in a thread of its own; wait until its call is under way or it waits."""
        seen = len(self.made) + len(self.shared._waiting)
        sent = self._pool.submit(self.shared.send, item, group=group, key=key or item)
        assert eventually(lambda: len(self.made) + len(self.shared._waiting) > seen, 10)
        return sent

    def release(self) -> None:
        self._held.set()


def test_what_waits_for_a_call_shares_the_next_one() -> None:
    calls = Calls()
    sent = [calls.send(item) for item in ("first", "a", "b", "c")]
    assert calls.made == [["first"]]
    calls.release()
    assert [each.result(10) for each in sent] == ["FIRST", "A", "B", "C"]
    assert calls.made == [["first"], ["a", "b", "c"]]


def test_items_wait_only_while_as_many_calls_are_under_way_as_there_may_be() -> None:
    calls = Calls()
    calls.shared = SharedCalls(calls.answer, patience=60.0, calls=2)
    first = calls.send("first")
    assert calls.shared.send("a", key="a") == "A"
    calls.release()
    assert first.result(10) == "FIRST"


def test_a_lone_item_is_sent_at_once() -> None:
    calls = Calls()
    assert [calls.shared.send(item, key=item) for item in "ab"] == ["A", "B"]
    assert calls.made == [["a"], ["b"]]


def test_a_call_has_one_group_and_each_key_once() -> None:
    calls = Calls()
    sent = [
        calls.send("first"),
        calls.send("a", "red", "1"),
        calls.send("b", "blue", "1"),
        calls.send("c", "red", "1"),
        calls.send("d", "red", "2"),
        calls.send("e", "red", "1"),
    ]
    calls.release()
    assert [each.result(10) for each in sent] == ["FIRST", "A", "B", "C", "D", "E"]
    assert calls.made == [["first"], ["a", "d"], ["b"], ["c"], ["e"]]


def test_a_call_has_at_most_64_items() -> None:
    calls = Calls()
    calls._pool = ThreadPoolExecutor(80)
    sent = [calls.send(item) for item in ("first", *map(str, range(70)))]
    calls.release()
    assert [each.result(10) for each in sent[1:]] == [str(n) for n in range(70)]
    assert [len(call) for call in calls.made] == [1, 64, 6]


def test_a_refused_item_fails_alone() -> None:
    calls = Calls()
    calls.error = ValueError("refused")
    sent = [calls.send(item) for item in ("first", "a", "bad", "c")]
    calls.release()
    with pytest.raises(ValueError, match="refused"):
        sent[2].result(10)
    assert [sent[n].result(10) for n in (0, 1, 3)] == ["FIRST", "A", "C"]
    assert sorted(calls.made[2:]) == [["a"], ["bad"], ["c"]]


def test_a_call_that_failed_after_a_long_time_is_not_repeated() -> None:
    calls = Calls()
    calls.shared = SharedCalls(calls.answer, patience=0.0)
    calls.error = ValueError("no answer")
    sent = [calls.send(item) for item in ("first", "a", "bad")]
    calls.release()
    for each in sent[1:]:
        with pytest.raises(ValueError, match="no answer"):
            each.result(10)
    assert len(calls.made) == 2


@pytest.mark.parametrize("calls", [1, 3])
def test_many_threads_get_their_own_answers(calls: int) -> None:
    shared = SharedCalls(lambda items: [2 * item for item in items], patience=60.0, calls=calls)
    with ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(shared.send, number, key=number) for number in range(2000)]
        assert [each.result(10) for each in sent] == [2 * number for number in range(2000)]
    assert shared._under_way == 0
    assert not shared._waiting
