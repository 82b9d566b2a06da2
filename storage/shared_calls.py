"""Lets several threads share one call to a server.

While as many calls are under way as there may be, what other threads want to send waits, and the
next call takes all of it. So the calls become larger as the load grows, and a lone item is sent at
once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_MOST = 64  # items in one call
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class _Entry(Generic[_Item, _Answer]):
    """What one thread sends."""

    item: _Item
    group: Hashable
    key: Hashable
    woken: threading.Event = field(default_factory=threading.Event)
    # What its thread sends, with itself first, if it is the one that begins a call.
    batch: list[_Entry[_Item, _Answer]] = field(default_factory=list)
    alone: bool = False  # its call failed, perhaps because of another item
    answers: Sequence[_Answer] = ()  # one, once the call has succeeded
    error: BaseException | None = None


class NotTogether(Exception):
    """A call of several items has done nothing, because one of them needs a call of its own."""


class SharedCalls(Generic[_Item, _Answer]):
    """Sends the items of several threads in few calls at a time."""

    def __init__(
        self, call: Callable[[list[_Item]], Sequence[_Answer]], *, patience: float, calls: int = 1
    ) -> None:
        """Items wait while ``calls`` calls are under way.

        ``call`` sends items and returns the answer to each of them, in their order. If it fails,
        each of its threads repeats it alone, so that an item that the server refuses fails by
        itself. ``patience`` is the time in seconds after which only NotTogether is repeated: a
        refusal comes sooner, so the server is down.
        """
        self._call = call
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: list[_Entry[_Item, _Answer]] = []
        self._most_calls = calls
        self._under_way = 0  # calls; items wait only while these are as many as there may be

    def send(self, item: _Item, *, group: Hashable = None, key: Hashable) -> _Answer:
        """Send an item, and return the answer to it.

        A call has items of one group, and each of their keys once. Raises what ``call`` raises.
        """
        entry: _Entry[_Item, _Answer] = _Entry(item, group, key)
        with self._lock:
            self._waiting.append(entry)
            if self._under_way < self._most_calls:
                self._under_way += 1
                entry.batch = self._take_waiting()
        if not entry.batch:
            entry.woken.wait()
        if entry.batch:
            self._send_batch(entry.batch)
        if entry.alone:
            return self._call([item])[0]
        if entry.error is not None:
            raise entry.error
        return entry.answers[0]

    def _send_batch(self, entries: list[_Entry[_Item, _Answer]]) -> None:
        started = time.monotonic()
        try:
            answers = self._call([entry.item for entry in entries])
            for number, entry in enumerate(entries):
                entry.answers = answers[number : number + 1]
        except BaseException as error:
            is_quick = time.monotonic() - started < self._patience
            for entry in entries:
                entry.error = error
                entry.alone = len(entries) > 1 and (is_quick or isinstance(error, NotTogether))
        finally:
            self._wake(entries)

    def _take_waiting(self) -> list[_Entry[_Item, _Answer]]:
        """Take the first entry and those that may share its call; leave the others in order."""
        group, keys = self._waiting[0].group, set[Hashable]()
        taken: list[_Entry[_Item, _Answer]] = []
        left: list[_Entry[_Item, _Answer]] = []
        for entry in self._waiting:
            fits = entry.group == group and entry.key not in keys and len(taken) < _MOST
            (taken if fits else left).append(entry)
            if entry.group == group:
                keys.add(entry.key)  # what follows with the same key stays behind this one
        self._waiting = left
        return taken

    def _wake(self, entries: list[_Entry[_Item, _Answer]]) -> None:
        """Wake the threads of a call that has ended, and the one that begins the next call."""
        with self._lock:
            following = self._take_waiting() if self._waiting else []
            if following:
                following[0].batch = following
            else:
                self._under_way -= 1
        for entry in entries + following[:1]:
            entry.woken.set()
