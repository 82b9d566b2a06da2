"""Every operation survives an error of every call that it makes to a store.

As SQLite's tests of anomalies do, the first call fails, then the second, and so on, until the
operation comes to its end. After each of them the stores work again and the invariants hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app.errors import AppError
from app.services.deletion import Deletion
from app.services.indexing import Indexing
from app.services.ingest import Ingest
from app.services.masters import Masters
from storage.errors import StoreUnavailable
from tests.crash.faults import MODES, Mode
from tests.crash.worlds import (
    OPERATIONS,
    World,
    delete,
    embedded,
    fail_at,
    in_memory,
    recover,
    repair,
    upload,
    work,
)
from tests.crash.wrong import MISTAKES

_MOST_CALLS = 200
Open = Callable[[Path], AbstractContextManager[World]]


def fail_every_call(
    open_world: Open, operation: Callable[[World], None], mode: Mode, tmp_path: Path, step: int = 1
) -> int:
    """Let the calls of an operation fail one after the other; return how many there are.

    Only every ``step``-th call is tested.
    """
    for call in itertools.count(1, step):
        assert call < _MOST_CALLS
        with open_world(tmp_path / str(call)) as world:
            reached, failed = fail_at(world, operation, call, mode)
            try:
                # What takes effect late may come after the worker has cleaned up.
                recover(world, is_clean=mode != "late" and operation is not repair)
            except BaseException as error:
                error.add_note(f"after call {call}, {failed}, failed: {mode}")
                raise
        if not reached:
            return call - 1
    raise AssertionError("the loop returns")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_every_call_of_an_operation_may_fail(
    operation: Callable[[World], None], mode: Mode, tmp_path: Path
) -> None:
    assert fail_every_call(in_memory, operation, mode, tmp_path) > 0


@pytest.mark.parametrize(
    ("mistake", "operation", "mode"),
    [
        ("row before object", upload, "before"),
        ("object before row", delete, "before"),
        ("row forgotten first", work, "down"),
        ("marked before written", upload, "before"),
    ],
)
def test_a_wrong_order_of_writes_is_found(
    mistake: str,
    operation: Callable[[World], None],
    mode: Mode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for owner, name in (
        (Ingest, "_store_master"),
        (Masters, "delete_master"),
        (Deletion, "_remove_master"),
        (Indexing, "index_embedding"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # it is set back afterwards
    MISTAKES[mistake]()
    with pytest.raises((AssertionError, AppError, StoreUnavailable)):
        fail_every_call(in_memory, operation, mode, tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_calls_to_the_embedded_stores_may_fail(
    operation: Callable[[World], None], mode: Mode, tmp_path: Path
) -> None:
    step = 9 + MODES.index(mode)  # so that the modes meet different calls
    assert fail_every_call(embedded, operation, mode, tmp_path, step) > 0
