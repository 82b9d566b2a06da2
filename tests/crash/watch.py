"""Watches the writes to the stores and kills the process before, during or after one of them."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from storage.protocols import Stores

WRITES = {
    "metadata": [
        "create_collection",
        "delete_collection",
        "empty_collection",
        "drain_collections",
        "reserve_master",
        "renew_reservation",
        "commit_stored",
        "abandon_reservation",
        "expire_reservations",
        "update_master",
        "delete_master",
        "update_masters",
        "delete_masters",
        "remove_masters",
        "restore_masters",
        "restore_attributes",
        "claim_removed",
        "settle_removed",
        "expire_deletions",
        "claim_deleting",
        "forget_master",
        "claim_embeddings",
        "claim_embedding",
        "reserve_write",
        "mark_indexed",
        "retry_embedding",
        "release_embedding",
        "requeue_dead_letters",
        "mark_damaged",
        "restore_damaged",
        "requeue_embedding",
        "save_captures",
        "forget_readers",
        "acquire_lease",
        "release_lease",
        "claim_database_id",
    ],
    "registry": [
        "register_active",
        "start_building",
        "backfill_embeddings",
        "activate_model",
        "retire_model",
        "drain_retired",
        "forget_retired",
        "record_heartbeat",
    ],
    "objects": ["put", "copy", "create", "delete"],
    "vectors": ["upsert", "delete", "drop_version"],
}
POLLED = {
    "drain_collections",
    "expire_reservations",
    "claim_deleting",
    "claim_removed",
    "expire_deletions",
    "claim_embeddings",
    "acquire_lease",
}
Moment = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Kill:
    """Ends the process at the ``count``-th call of ``write``, such as ``objects.put`` or ``any``.

    A polling call counts only if it changed something, so the kill can only come after it.
    """

    write: str
    count: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment} {self.write} {self.count}"


class Watch:
    """Counts writes while ``armed``, logs their names to a file, and kills the process."""

    def __init__(self, kill: Kill | None, log: Path, *, armed: bool) -> None:
        self.armed = armed
        self._kill = kill
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def call(self, name: str, method: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Call ``method``, the write ``name``, unless the process ends here."""
        if name.partition(".")[2] in POLLED:
            result = method(*arguments, **named)
            if result and self.armed:
                _end_if(self._count(name), "after")
            return result
        if not self.armed:
            return method(*arguments, **named)
        kill = self._count(name)
        _end_if(kill, "before")
        if name == "objects.put" and kill and kill.moment == "during":
            arguments = (arguments[0], _Half(arguments[1]), *arguments[2:])
        result = method(*arguments, **named)
        _end_if(kill, "after")
        return result

    def _count(self, name: str) -> Kill | None:
        """Count one call; return the kill if this is the call to kill."""
        with self._lock:
            self._counts[name] += 1
            os.write(self._log, f"{name}\n".encode())
            reached = (name, self._counts[name]), ("any", self._counts.total())
            kill = self._kill
            return kill if kill and (kill.write, kill.count) in reached else None


def _end_if(kill: Kill | None, moment: Moment) -> None:
    if kill is not None and kill.moment == moment:
        _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Half:
    """A file that ends the process when its second part is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parts = 0

    def read(self, size: int = -1) -> bytes:
        self._parts += 1
        if self._parts == 2:
            _end()
        return self._file.read(64)


class _Watched:
    """A store whose writes go through a watch."""

    def __init__(self, name: str, store: Any, watch: Watch) -> None:
        self._name, self._store, self._watch = name, store, watch

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._store, attribute)
        if attribute not in WRITES[self._name]:
            return value
        return lambda *arguments, **named: self._watch.call(
            f"{self._name}.{attribute}", value, *arguments, **named
        )


def watch_stores(stores: Stores, watch: Watch) -> Stores:
    """Return the same stores with every write of ``WRITES`` watched."""
    return replace(
        stores, **{name: _Watched(name, getattr(stores, name), watch) for name in WRITES}
    )
