"""Decides which waiting image is decoded next, so that a few costly images delay nobody else.

Small images and costly ones wait in queues of their own. In each the purposes take turns, and for
each purpose the addresses that the images came from.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain


class Purpose(Enum):
    """What an image is decoded for."""

    SEARCH = "search"
    UPLOAD = "upload"
    THUMBNAIL = "thumbnail"
    INDEXING = "indexing"


class TooManyWaiting(Exception):
    """Too many images wait for the same purpose."""


class Refused(Exception):
    """The service is stopping, so no turn will be granted."""


class Abandoned(Exception):
    """Nobody waits for the image any more."""


class Caller:
    """Whoever waits for a result, and may leave before it is there. Thread-safe."""

    def __init__(self, address: str = "") -> None:
        self.address = address
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self.has_left = False

    def leave(self) -> None:
        """Note that nobody waits any more, and interrupt what waits for a turn."""
        with self._lock:
            self.has_left = True
            interrupted, self._waiting = self._waiting, []
        for interrupt in interrupted:
            interrupt()

    @contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call ``interrupt`` if the caller leaves during the block, or has left before it."""
        with self._lock:
            self._waiting.append(interrupt)
            left = self.has_left
        if left:
            interrupt()
        try:
            yield
        finally:
            with self._lock:
                if interrupt in self._waiting:
                    self._waiting.remove(interrupt)


@dataclass(eq=False)
class Turn:
    """The right to decode one image. ``memory`` is None for a small image, otherwise its bytes."""

    purpose: Purpose
    address: str
    memory: int | None
    came: threading.Event = field(default_factory=threading.Event)  # or it never will
    granted: bool = False
    turned_away: bool = False


class _FairQueue:
    """Turns that wait, in the order in which they arrived, but one address after the other."""

    def __init__(self) -> None:
        self._addresses: dict[str, deque[Turn]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._addresses.values()))

    def __iter__(self) -> Iterator[Turn]:
        return chain.from_iterable(self._addresses.values())

    def append(self, turn: Turn) -> None:
        self._addresses.setdefault(turn.address, deque()).append(turn)

    def last_of_most(self) -> Turn:
        """Return the turn that came last from the address of which most wait."""
        return max(self._addresses.values(), key=len)[-1]

    def remove(self, turn: Turn) -> None:
        waiting = self._addresses[turn.address]
        waiting.remove(turn)
        if not waiting:
            del self._addresses[turn.address]

    def pop_first(self) -> Turn:
        """Remove the first turn; its address is the last to come again."""
        address, waiting = next(iter(self._addresses.items()))
        turn = waiting.popleft()
        del self._addresses[address]
        if waiting:
            self._addresses[address] = waiting
        return turn


class Turns:
    """Grants at most ``slots`` turns at a time, and one more if all of them are of the other kind.

    So small images never wait for costly ones, and costly ones are never starved. Thread-safe.
    """

    def __init__(self, slots: int, memory: int, max_waiting: int) -> None:
        """``memory`` in bytes is what all costly images together may take.

        At most ``max_waiting`` turns of the same purpose and kind wait. If there are more, those of
        the address with most of them are turned away.
        """
        self._slots = slots
        self._memory = memory
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._running: set[Turn] = set()
        self._small = {purpose: _FairQueue() for purpose in Purpose}
        self._costly = {purpose: _FairQueue() for purpose in Purpose}
        self._stopped = False

    @contextmanager
    def take(self, purpose: Purpose, memory: int | None, caller: Caller) -> Iterator[Turn]:
        """Wait for a turn, and hold it during the block.

        Raises TooManyWaiting, Refused, Abandoned.
        """
        turn = Turn(purpose, caller.address, memory)
        self._enqueue(turn)
        with caller.interrupting(turn.came.set):
            turn.came.wait()
        try:
            with self._lock:
                if turn.turned_away:
                    raise TooManyWaiting
                if not turn.granted:
                    self._queues(turn)[purpose].remove(turn)
                    raise Refused if self._stopped else Abandoned
            if caller.has_left:
                raise Abandoned
            yield turn
        finally:
            with self._lock:
                self._running.discard(turn)
                self._grant_turns()

    def make_costly(self, turn: Turn) -> bool:
        """Count a small image that takes long as a costly one from now on.

        Returns False if there are as many of them as there may be: then it must give way.
        """
        with self._lock:
            if sum(each.memory is not None for each in self._running) >= self._slots:
                return False
            turn.memory = 0
            self._grant_turns()
            return True

    def stop(self) -> None:
        """Refuse everything that waits, and everything that comes."""
        with self._lock:
            self._stopped = True
            for queue in (*self._small.values(), *self._costly.values()):
                for turn in queue:
                    turn.came.set()

    def _queues(self, turn: Turn) -> dict[Purpose, _FairQueue]:
        return self._small if turn.memory is None else self._costly

    def _enqueue(self, turn: Turn) -> None:
        with self._lock:
            queue = self._queues(turn)[turn.purpose]
            if self._stopped:
                raise Refused
            queue.append(turn)
            if len(queue) > self._max_waiting:
                self._turn_away(queue)
            self._grant_turns()

    def _turn_away(self, queue: _FairQueue) -> None:
        """Remove the turn that came last from the address of which most wait."""
        turn = queue.last_of_most()
        queue.remove(turn)
        turn.turned_away = True
        turn.came.set()

    def _grant_turns(self) -> None:
        """Grant whatever can start now. The lock is held."""
        while not self._stopped and (
            self._grant_next(self._small) or self._grant_next(self._costly)
        ):
            pass

    def _grant_next(self, queues: dict[Purpose, _FairQueue]) -> bool:
        alike = sum((turn.memory is None) == (queues is self._small) for turn in self._running)
        room = self._slots if alike else self._slots + 1
        if len(self._running) >= room or (queues is self._costly and alike >= self._slots):
            return False
        queue = next((queue for queue in queues.values() if queue), None)
        if queue is None or not self._has_memory_for(next(iter(queue))):
            return False
        turn = queue.pop_first()
        queues[turn.purpose] = queues.pop(turn.purpose)  # its purpose is the last to come again
        turn.granted = True
        self._running.add(turn)
        turn.came.set()
        return True

    def _has_memory_for(self, turn: Turn) -> bool:
        taken = sum(each.memory or 0 for each in self._running)
        return not turn.memory or taken + turn.memory <= self._memory
