"""How much an upload asks of the servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.worlds import World, settings_in
from tests.support.sent_statements import name_statements, record_statements
from tests.support.stack import Stack
from tests.support.use_cases import colours

pytestmark = pytest.mark.servers


@pytest.fixture
def world(stack: Stack, tmp_path: Path) -> Iterator[World]:
    stack.create_collections()
    with stack.open_stores() as stores:
        world = World(stores, settings_in(tmp_path), lambda: None)
        world.restart()
        try:
            yield world
        finally:
            world.stop()


def test_an_upload_takes_fifteen_round_trips_to_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.operations.upload(colours(1), "shop", {})  # the collection is created, and remembered
    sent = record_statements(monkeypatch)
    world.operations.upload(colours(2), "shop", {})
    assert name_statements([each for each in sent if each]) == [
        *("SELECT", "COMMIT"),  # whether the collection has these bytes
        *("SELECT", "SELECT", "INSERT masters", "COMMIT"),
        *("SELECT", "UPDATE masters", "SELECT", "SELECT", "INSERT embeddings", "COMMIT"),
        *("SELECT", "UPDATE embeddings", "COMMIT"),
    ]
