"""The four storage protocols in memory, for tests of what is built on them.

The contract suites run on these fakes as they run on the real stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from storage.protocols import Stores
from tests.support.memory_stores.metadata import MemoryMetadataStore
from tests.support.memory_stores.objects import MemoryObjectStore
from tests.support.memory_stores.registry import MemoryModelRegistry
from tests.support.memory_stores.tables import MemoryTables
from tests.support.memory_stores.vectors import MemoryVectorStore

__all__ = [
    "MemoryMetadataStore",
    "MemoryModelRegistry",
    "MemoryObjectStore",
    "MemoryTables",
    "MemoryVectorStore",
    "open_memory_stores",
]


def open_memory_stores(clock: Callable[[], float] = time.time) -> Stores:
    """Open four empty stores. ``clock`` returns seconds since 1970; leases expire by it."""
    tables = MemoryTables(clock)
    return Stores(
        MemoryMetadataStore(tables),
        MemoryModelRegistry(tables),
        MemoryObjectStore(clock),
        MemoryVectorStore(),
    )
