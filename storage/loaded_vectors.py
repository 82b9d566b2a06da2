"""The vectors of one model version in memory, from the moment when their loading begins."""

from __future__ import annotations

import threading
from collections.abc import Callable

from storage.errors import StoreUnavailable
from storage.vector_matrix import VectorMatrix

_LONGEST_WAIT = 30.0  # seconds for which a search waits
_Change = Callable[[VectorMatrix], None]


class LoadedVectors:
    """A matrix that is being loaded or is complete.

    Changes that are made meanwhile are kept in order, and applied before the first search. A change
    that the loading has seen already does no harm.
    """

    def __init__(self, stopping: threading.Event, save_at: int) -> None:
        """``stopping`` ends the loading. ``save_at`` is the number of changes worth a snapshot."""
        self._stopping = stopping
        self._lock = threading.Lock()
        self._matrix: VectorMatrix | None = None
        self._pending: list[_Change] = []
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.loaded = self.total = 0  # rows; the total is 0 until it is known
        self.changes = 0  # masters that the snapshot does not have, or has in another state
        self.save_at = save_at

    @property
    def matrix(self) -> VectorMatrix | None:
        """The matrix, once it is complete."""
        return self._matrix

    def report(self, loaded: int, total: int) -> None:
        """Record the progress in rows. Raises StoreUnavailable if the process stops."""
        self.loaded, self.total = loaded, total
        if self._stopping.is_set():
            raise StoreUnavailable("vector", "the process stops")

    def load(self, read: Callable[[], VectorMatrix]) -> None:
        """Read the matrix, and apply the changes that were made since this object exists."""
        try:
            matrix = read()
            while not self._catch_up(matrix):
                pass
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    def _catch_up(self, matrix: VectorMatrix) -> bool:
        """Apply what is pending; if that is nothing, let changes go to the matrix."""
        with self._lock:
            pending, self._pending = self._pending, []
            if not pending:
                self._matrix = matrix
                return True
        for change in pending:
            change(matrix)
        return False

    def apply(self, change: _Change, masters: int) -> None:
        """Apply a change of that many masters now, or once the matrix is loaded."""
        self.changes += masters
        with self._lock:
            if self._matrix is None:
                self._pending.append(change)
                return
        change(self._matrix)

    def wait(self) -> VectorMatrix:
        """Return the matrix once it is complete.

        Raises StoreUnavailable if that takes too long, or if the loading failed.
        """
        if not self._ended.wait(_LONGEST_WAIT):
            progress = f"{self.loaded:,} of {self.total:,}" if self.total else "none yet"
            raise StoreUnavailable("vector", f"its vectors are being loaded ({progress})")
        if self._matrix is None:
            raise StoreUnavailable("vector", f"its vectors were not loaded: {self._error}")
        return self._matrix
