"""Threads that work on several parts of one request at a time, shared by all such requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from fastapi import UploadFile

from storage.hashing import sha256_of_file

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_THREADS_PER_SLOT = 4  # while some parts use the cores, others wait for the disk or for a commit
_MOST_THREADS = 32


class FileThreads:
    """The threads that requests with several files or searches use beside the one of their own.

    A request gives such a thread back after each part, so that one with many parts delays no other.
    """

    def __init__(self, slots: int) -> None:
        """``slots`` is the number of images that the process works on at the same time."""
        self.count = min(_MOST_THREADS, _THREADS_PER_SLOT * slots)
        self.limiter = CapacityLimiter(self.count)

    async def map_files(
        self, work: Callable[[UploadFile], _Result], files: Sequence[UploadFile]
    ) -> list[_Result]:
        """Call ``work`` for each file in threads, and return the results in the files' order.

        Files with the same bytes are worked on one after the other, in their order. If ``work``
        raises, the other files are finished first; then one of the exceptions is raised.
        """
        chains = await to_thread.run_sync(_chain_equal_files, files)
        return await self.map_chains(work, files, chains)

    async def map_chains(
        self, work: Callable[[_Item], _Result], items: Sequence[_Item], chains: list[list[int]]
    ) -> list[_Result]:
        """Call ``work`` for each item in threads, and return the results in the items' order.

        The items whose numbers are in one chain are worked on one after the other.
        """
        results: dict[int, _Result] = {}
        failures: list[Exception] = []
        waiting = iter(chains)

        def work_on(chain: list[int]) -> None:
            for number in chain:
                results[number] = work(items[number])

        async def work_on_next() -> bool:
            chain = next(waiting, None)
            if chain is None:
                return False
            with CancelScope(shield=True):
                try:
                    await to_thread.run_sync(work_on, chain)
                except Exception as error:
                    failures.append(error)
            return True

        async def use_shared_thread() -> None:
            is_left = True
            while is_left:
                async with self.limiter:
                    is_left = await work_on_next()

        async with create_task_group() as group:
            for _ in range(min(self.count, len(chains) - 1)):
                group.start_soon(use_shared_thread)
            while await work_on_next():  # in the thread of its own
                pass
            group.cancel_scope.cancel()  # what still waits for a shared thread
        if failures:
            raise failures[0]
        return [results[number] for number in range(len(items))]


def _chain_equal_files(files: Sequence[UploadFile]) -> list[list[int]]:
    """Group the numbers of files with the same bytes, in their order."""
    sizes = Counter(file.size for file in files)
    chains: dict[object, list[int]] = {}
    for number, file in enumerate(files):
        digest = sha256_of_file(file.file) if sizes[file.size] > 1 else b""
        chains.setdefault((file.size, digest), []).append(number)
    return list(chains.values())
