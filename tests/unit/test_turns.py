"""Who decodes next: small and costly images, and the purposes, take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from models.decoding.turns import Abandoned, Caller, Purpose, Refused, TooManyWaiting, Turn, Turns
from tests.support.service import eventually

MEMORY = 100
UPLOAD, SEARCH, THUMBNAIL = Purpose.UPLOAD, Purpose.SEARCH, Purpose.THUMBNAIL


class Work:
    """Takes turns in threads, and notes the order in which they were granted."""

    def __init__(self, turns: Turns, pool: ThreadPoolExecutor) -> None:
        self.turns, self._pool = turns, pool
        self.started: list[str] = []
        self._ends: dict[str, threading.Event] = {}
        self._arrived = 0
        self._enqueue, turns._enqueue = turns._enqueue, self._arrive  # type: ignore[method-assign]

    def _arrive(self, turn: Turn) -> None:
        try:
            self._enqueue(turn)
        finally:
            self._arrived += 1

    def begin(
        self, name: str, purpose: Purpose, memory: int | None = None, caller: Caller | None = None
    ) -> Future[None]:
        """Ask for a turn; return once it is granted or waits in its queue."""
        self._ends[name] = threading.Event()
        before = self._arrived
        future = self._pool.submit(self._take, name, purpose, memory, caller or Caller())
        assert eventually(lambda: self._arrived > before)
        return future

    def count(self) -> int:
        turns = self.turns
        queues = (*turns._small.values(), *turns._costly.values())
        return len(self.started) + sum(map(len, queues))

    def _take(self, name: str, purpose: Purpose, memory: int | None, caller: Caller) -> None:
        with self.turns.take(purpose, memory, caller):
            self.started.append(name)
            self._ends[name].wait(10)

    def end(self, name: str) -> None:
        self._ends[name].set()

    def end_all(self) -> None:
        for event in self._ends.values():
            event.set()

    def has_started(self, *names: str) -> bool:
        return eventually(lambda: set(names) <= set(self.started))


@contextmanager
def working(slots: int, max_waiting: int = 10) -> Iterator[Work]:
    with ThreadPoolExecutor(40) as pool:
        work = Work(Turns(slots, MEMORY, max_waiting), pool)
        try:
            yield work
        finally:
            work.turns.stop()
            work.end_all()


def test_no_more_turns_than_slots_are_granted() -> None:
    with working(2) as work:
        for name in "abc":
            work.begin(name, UPLOAD)
        assert work.has_started("a", "b")
        assert "c" not in work.started
        work.end("a")
        assert work.has_started("c")


def test_a_small_image_does_not_wait_for_costly_ones() -> None:
    with working(2) as work:
        for name in ("large-1", "large-2", "large-3"):
            work.begin(name, SEARCH, 10)
        work.begin("small-1", SEARCH)
        work.begin("small-2", SEARCH)
        assert work.has_started("large-1", "large-2", "small-1")
        assert len(work.started) == 3


def test_a_costly_image_does_not_wait_for_ever_behind_small_ones() -> None:
    with working(1) as work:
        work.begin("small-1", SEARCH)
        work.begin("small-2", SEARCH)
        work.begin("large", SEARCH, 10)
        assert work.has_started("small-1", "large")


def test_costly_images_share_the_memory() -> None:
    with working(4) as work:
        work.begin("60", UPLOAD, 60)
        work.begin("50", UPLOAD, 50)
        work.begin("20", UPLOAD, 20)
        assert work.has_started("60")
        assert len(work.started) == 1, "an image overtook one that waits for memory"
        work.end("60")
        assert work.has_started("50", "20")


def test_purposes_take_turns() -> None:
    with working(1) as work:
        work.begin("first", UPLOAD)
        for number in range(3):
            work.begin(f"upload-{number}", UPLOAD)
        for number in range(2):
            work.begin(f"thumbnail-{number}", THUMBNAIL)
        work.begin("search", SEARCH)
        while len(work.started) < 7:
            started = len(work.started)
            work.end(work.started[-1])
            assert eventually(lambda before=started: len(work.started) > before)
        kinds = [name.partition("-")[0] for name in work.started[1:]]
        assert set(kinds[:3]) == {"search", "thumbnail", "upload"}
        assert set(kinds[3:5]) == {"thumbnail", "upload"}


def test_addresses_take_turns() -> None:
    with working(1) as work:
        work.begin("first", SEARCH)
        for number in range(4):
            work.begin(f"many-{number}", SEARCH, caller=Caller("192.0.2.1"))
        work.begin("one", SEARCH, caller=Caller("192.0.2.2"))
        for _ in range(2):
            started = len(work.started)
            work.end(work.started[-1])
            assert eventually(lambda before=started: len(work.started) > before)
        assert work.started[1:] == ["many-0", "one"]


def test_too_many_that_wait_are_refused() -> None:
    with working(1, max_waiting=2) as work:
        for name in "abc":
            work.begin(name, THUMBNAIL)
        with pytest.raises(TooManyWaiting):
            work.begin("d", THUMBNAIL).result(10)
        work.begin("e", SEARCH)
        assert work.count() == 4


def test_whoever_fills_the_queue_is_turned_away_first() -> None:
    with working(1, max_waiting=3) as work:
        greedy = [
            work.begin(name, THUMBNAIL, caller=Caller("192.0.2.1")) for name in ("a", "b", "c", "d")
        ]
        work.begin("other", THUMBNAIL, caller=Caller("192.0.2.2"))
        with pytest.raises(TooManyWaiting):
            greedy[-1].result(10)
        work.end("a")
        work.begin("later", THUMBNAIL, caller=Caller("192.0.2.2"))
        assert work.has_started("b")


def test_whoever_leaves_loses_the_place_in_the_queue() -> None:
    with working(1) as work:
        work.begin("a", SEARCH)
        caller = Caller()
        waiting = work.begin("b", SEARCH, caller=caller)
        caller.leave()
        with pytest.raises(Abandoned):
            waiting.result(10)
        work.end("a")
        work.begin("c", SEARCH)
        assert work.has_started("c")
        assert "b" not in work.started


def test_stopping_refuses_what_waits_and_what_comes() -> None:
    with working(1) as work:
        work.begin("a", SEARCH)
        waiting = [work.begin("b", SEARCH), work.begin("c", UPLOAD, 10), work.begin("d", UPLOAD)]
        work.turns.stop()
        for future in (waiting[0], waiting[2], work.begin("e", SEARCH)):
            with pytest.raises(Refused):
                future.result(10)
        assert work.started == ["a", "c"], "what has begun goes on"


def test_a_small_image_that_takes_long_becomes_costly_while_there_is_room() -> None:
    with working(2) as work, work.turns.take(SEARCH, None, Caller()) as turn:
        assert work.turns.make_costly(turn)
        work.begin("a", SEARCH, 10)
        with work.turns.take(SEARCH, None, Caller()) as other:
            assert not work.turns.make_costly(other)
