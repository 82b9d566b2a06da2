"""Stores whose n-th call fails: before or after it took effect, with its effect later, or for good.

A kill ends everything at once. After an error, the process continues with what it has in memory.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from storage.errors import StoreUnavailable
from storage.protocols import Stores

# after: the answer is lost. late: the client gives up, and the server ends the call afterwards.
# down: the store answers nothing from this call on, until it is restarted.
Mode = Literal["before", "after", "late", "down"]
MODES: tuple[Mode, ...] = ("before", "after", "late", "down")
_STORES = ("metadata", "registry", "objects", "vectors")
_UNCOUNTED = {"close", "upgrade_schema"}


class Faults:
    """Counts the calls to all stores while ``armed``, and makes the n-th of them fail."""

    def __init__(self, call: int, mode: Mode) -> None:
        self.armed = False
        self.reached = False
        self.failed = ""  # the call that failed, such as objects.put
        self._call, self._mode = call, mode
        self._count = 0
        self._late: list[Callable[[], object]] = []

    def wrap(self, stores: Stores) -> Stores:
        """Return the same stores, with every call counted."""
        wrapped = {name: _Faulty(name, getattr(stores, name), self) for name in _STORES}
        return replace(stores, **wrapped)  # type: ignore[arg-type]

    def call(
        self, store: str, name: str, method: Callable[..., Any], /, *arguments: Any, **named: Any
    ) -> Any:
        """Call the method of a store, or fail."""
        if not self.armed:
            return method(*arguments, **named)
        self._count += 1
        if self._mode == "down" and self.reached and store == self.failed.partition(".")[0]:
            raise StoreUnavailable(store, "it is down")
        if self._count != self._call:
            return method(*arguments, **named)
        self.reached, self.failed = True, f"{store}.{name}"
        if self._mode == "after":
            method(*arguments, **named)
        elif self._mode == "late":
            if name == "put":  # the client's file is closed by then
                content = arguments[1].read(arguments[2])
                arguments = (arguments[0], io.BytesIO(content), *arguments[2:])
            self._late.append(lambda: method(*arguments, **named))
        raise StoreUnavailable(store, f"the call of {name} failed")

    def end(self) -> None:
        """Let what is late take effect; nothing fails any more."""
        self.armed = False
        for effect in self._late:
            with suppress(Exception):  # nobody waits for its result
                effect()


class _Faulty:
    """A store whose calls go through the faults."""

    def __init__(self, name: str, store: Any, faults: Faults) -> None:
        self._name, self._store, self._faults = name, store, faults

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._store, attribute)
        if not callable(value) or attribute in _UNCOUNTED:
            return value
        return lambda *arguments, **named: self._faults.call(
            self._name, attribute, value, *arguments, **named
        )
