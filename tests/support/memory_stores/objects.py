"""The object store in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from storage.errors import ObjectMissing, StoreUnavailable
from storage.records import ObjectInfo

_CHUNK = 256 * 1024  # bytes read at once


@dataclass(frozen=True)
class _Object:
    content: bytes
    modified: float  # seconds since 1970


class MemoryObjectStore:
    """Implements ObjectStore in memory."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._objects: dict[str, _Object] = {}

    def put(self, key: str, file: BinaryIO, size: int, content_type: str, name: str) -> None:
        content = bytearray()
        while chunk := file.read(min(_CHUNK, size - len(content))):
            content += chunk
        if len(content) < size:
            reason = f"the upload has {len(content)} bytes, but {size} were announced"
            raise StoreUnavailable("object", reason)
        with self._lock:
            self._objects[key] = _Object(bytes(content), self._clock())

    def create(self, key: str, content: bytes, content_type: str) -> bool:
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = _Object(content, self._clock())
        return True

    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        content = self._find(key).content
        end = len(content) if length is None else min(len(content), offset + length)
        starts = range(offset, end, _CHUNK)
        return iter([content[start : min(start + _CHUNK, end)] for start in starts])

    def stat(self, key: str) -> ObjectInfo:
        found = self._find(key)
        return ObjectInfo(key, len(found.content), found.modified)

    def link(self, key: str, content_type: str, disposition: str) -> str | None:
        return None

    def copy(self, key: str, target: str) -> None:
        found = self._find(key)
        with self._lock:
            self._objects[target] = _Object(found.content, self._clock())

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(key, None)

    def abort_unfinished(self, prefix: str, before: float) -> int:
        return 0  # a put leaves nothing unfinished here

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        with self._lock:
            found = [pair for pair in self._objects.items() if pair[0].startswith(folder)]
        return iter([ObjectInfo(key, len(one.content), one.modified) for key, one in found])

    def ping(self) -> None:
        """Do nothing: memory always answers."""

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _find(self, key: str) -> _Object:
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectMissing(key)
        return found
