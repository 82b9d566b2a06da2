"""Has memory returned to the system early, and Python's garbage collected at the right time."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's malloc.h
_LARGE_BLOCK = 1 << 20  # bytes


def return_memory_early() -> None:
    """Have glibc return large blocks as soon as they are freed; do nothing elsewhere.

    By default each thread may get an arena of its own, and the limit above which a block is mapped
    for itself grows with the blocks that were freed. Together they keep gigabytes after a few
    hundred threads have each held one file of many megabytes.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
        library.mallopt(_ARENA_MAX, 4)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect no garbage during the block, which imports much, and never search what it has made.

    Modules, classes and functions stay, but the collector would search them all several times.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
