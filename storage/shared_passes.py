"""Lets searches that arrive during a pass over the matrix share the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from storage.vector_queries import Query

_MOST = 16  # queries in one pass; more would make each of them wait without being faster

Compare = Callable[[Sequence[Query]], None]


@dataclass(eq=False)
class _Turn:
    """A query that waits for a pass, or for its thread to run one."""

    query: Query
    leads: bool = False
    woken: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class SharedPasses:
    """Runs one pass at a time. A query that finds none running starts one at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._is_running = False

    def run(self, query: Query, compare: Compare) -> None:
        """Compare the query, together with those that wait. Raises what that raises for it."""
        turn = _Turn(query)
        with self._lock:
            self._waiting.append(turn)
            turn.leads, self._is_running = not self._is_running, True
        try:
            if not turn.leads:
                turn.woken.wait()
            if turn.leads:
                self._lead(compare)
        except BaseException:
            self._abandon(turn)
            raise
        if turn.error is not None:
            raise turn.error

    def _lead(self, compare: Compare) -> None:
        """Run a pass for the first ones that wait, and let the next one lead."""
        with self._lock:
            count = min(len(self._waiting), _MOST)
            turns = [self._waiting.popleft() for _ in range(count)]
        try:
            _compare_turns(turns, compare)
        finally:
            self._pass_on()
            for turn in turns:
                turn.woken.set()

    def _pass_on(self) -> None:
        with self._lock:
            self._is_running = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].woken.set()

    def _abandon(self, turn: _Turn) -> None:
        """Let others go on without a thread that was interrupted while it waited."""
        with self._lock:
            waits = turn in self._waiting
            if waits:
                self._waiting.remove(turn)
        if waits and turn.leads:
            self._pass_on()


def _compare_turns(turns: Sequence[_Turn], compare: Compare) -> None:
    try:
        compare([turn.query for turn in turns])
    except Exception:
        # One of them may be the cause, so each gets a pass and an error of its own.
        for turn in turns:
            try:
                compare([turn.query])
            except Exception as error:
                turn.error = error
    except BaseException as error:  # this thread was interrupted
        for turn in turns:
            turn.error = error
