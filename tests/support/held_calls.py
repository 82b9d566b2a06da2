"""Holds the first of some shared calls, so that what follows it waits and shares the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from storage.shared_calls import SharedCalls
from tests.support.service import eventually


class HeldCalls:
    """Starts calls in threads of their own; the first one goes on after ``release``."""

    def __init__(self, shared: SharedCalls[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []  # numbers of items
        self._shared = shared
        self._held = threading.Event()
        self._pool = ThreadPoolExecutor(20)
        call = shared._call

        def call_later(items: list[Any]) -> Any:
            self.sizes.append(len(items))
            if len(self.sizes) == 1:
                assert self._held.wait(30)
            return call(items)

        monkeypatch.setattr(shared, "_call", call_later)
        monkeypatch.setattr(shared, "_most_calls", 1)

    def start(self, send: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run ``send`` in a thread; wait until its call is under way or it waits for another."""
        seen = self._count_sent()
        started = self._pool.submit(send, *arguments)
        assert eventually(lambda: self._count_sent() > seen, 10)
        return started

    def _count_sent(self) -> int:
        return len(self.sizes) + len(self._shared._waiting)

    def release(self) -> None:
        self._held.set()
