"""Processes of the service over real servers: each test has its own database, bucket and prefix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.bootstrap import store_urls
from app.settings import Settings
from storage.factory import upgrade_schema
from tests.support import fleet
from tests.support.stack import Stack


@pytest.fixture
def stack(tmp_path: Path, tiny_weights_file: Path) -> Iterator[Stack]:
    """A stack on this run's servers, with the tiny network and the newest schema."""
    name = f"test_{uuid4().hex}"
    server = sa.create_engine(fleet.url_of("mariadb"))
    database = server.url.set(database=name).render_as_string(hide_password=False)
    objects = fleet.url_of("seaweedfs").replace("/lookalike?", f"/{name.replace('_', '-')}?")
    stack = Stack(
        {
            "LOOKALIKE_DATABASE_URL": database,
            "LOOKALIKE_OBJECTS_URL": objects,
            "LOOKALIKE_VECTORS_URL": fleet.url_of("milvus"),
            "LOOKALIKE_MILVUS_PREFIX": name,
            "LOOKALIKE_WORKER_INTERVAL": "0.1",
            "LOOKALIKE_WEIGHTS": str(tiny_weights_file),
        },
        tmp_path,
    )
    with ExitStack() as ending:
        ending.callback(server.dispose)
        ending.callback(stack.stop)
        with server.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
        upgrade_schema(store_urls(Settings(database_url=database, _env_file=None)))
        yield stack
