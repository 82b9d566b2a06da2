"""Processes of the service over real servers: each test has its own database and bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from app.bootstrap import store_urls
from app.settings import Settings
from models.weights_file import WeightsFile
from storage.factory import upgrade_schema
from storage.store_urls import MilvusOptions
from storage.vectors_milvus import MilvusVectorStore
from tests.support import fleet
from tests.support.stack import Stack
from tests.support.vector_records import empty_milvus


@pytest.fixture(scope="session")
def shared_prefix() -> str:
    """The prefix of this process on Milvus, whose tests share one loaded collection."""
    return f"test_{uuid4().hex}"


@pytest.fixture
def stack(tmp_path: Path, tiny_weights_file: Path, shared_prefix: str) -> Iterator[Stack]:
    """A stack on this run's servers, with the tiny network and the newest schema.

    Its collection on Milvus is loaded and empty; ``create_collections`` lets the stack create one.
    """
    name = f"test_{uuid4().hex}"
    server = sa.create_engine(fleet.url_of("mariadb"))
    database = server.url.set(database=name).render_as_string(hide_password=False)
    objects = fleet.url_of("seaweedfs").replace("/lookalike?", f"/{name.replace('_', '-')}?")
    stack = Stack(
        {
            "LOOKALIKE_DATABASE_URL": database,
            "LOOKALIKE_OBJECTS_URL": objects,
            "LOOKALIKE_VECTORS_URL": fleet.url_of("milvus"),
            "LOOKALIKE_MILVUS_PREFIX": shared_prefix,
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
        options = MilvusOptions(prefix=shared_prefix)
        with closing(MilvusVectorStore(fleet.url_of("milvus"), options)) as vectors:
            empty_milvus(vectors, WeightsFile.load(tiny_weights_file).version)
        yield stack
