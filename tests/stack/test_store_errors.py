"""A sample of the errors of tests/crash/test_errors.py, on MariaDB, SeaweedFS and Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.errors import AppError
from storage.errors import StoreUnavailable
from tests.crash.faults import MODES, Faults
from tests.crash.worlds import LET_TIME_PASS, World, recover, settings_in, work
from tests.support.stack import Stack
from tests.support.use_cases import colours

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def world(stack: Stack, tmp_path: Path) -> Iterator[World]:
    stack.create_collections()  # the shared one may have vectors of other tests
    engine = sa.create_engine(stack.environment["LOOKALIKE_DATABASE_URL"])

    def let_time_pass() -> None:
        with engine.begin() as connection:
            for statement in LET_TIME_PASS:
                connection.execute(sa.text(statement))

    with stack.open_stores() as stores:
        world = World(stores, settings_in(tmp_path), let_time_pass)
        try:
            yield world
        finally:
            world.stop()
            engine.dispose()


def test_calls_to_the_servers_may_fail(world: World) -> None:
    for call, mode in zip(range(1, 33, 3), cycle(MODES), strict=False):
        faults = Faults(call, mode)
        image = colours(100 + call)
        world.restart(faults.wrap(world.stores))
        faults.armed = True
        with suppress(AppError, StoreUnavailable):
            world.journal.upload(world.operations, image, n=call)
            world.journal.change(world.operations, image, n=-call)
            world.journal.delete(world.operations, image)
            work(world)
        faults.end()
        assert faults.reached, call
        recover(world, is_clean=mode != "late")
