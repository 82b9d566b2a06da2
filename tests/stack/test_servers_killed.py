"""Servers that are killed under load keep all acknowledged data and no incomplete masters."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.bootstrap import connect_stores, run_services, store_urls
from app.given_model import GivenModel
from app.settings import Settings
from models.embedder import Embedder
from storage.database import Database
from storage.factory import upgrade_schema
from storage.metadata import SqlMetadataStore
from tests.support import fleet
from tests.support import servers as test_servers
from tests.support.images import encoded, part_of
from tests.support.requests import put, search
from tests.support.servers import CannotStart, Server
from tests.support.service import eventually
from tests.support.stack import Stack
from tests.support.system_packages import require

CLIENTS = 4
_RECOVERY = 300.0  # seconds; Milvus takes 15 s after a kill, minutes on a busy machine


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Server]]:
    """A MariaDB, an S3 and a Milvus that the test may kill."""
    for name in fleet.MAKERS:
        fleet.url_of(name)  # skips or fails the test if a server cannot run
    started = {name: make(tmp_path / name) for name, make in fleet.MAKERS.items()}
    # A Milvus that was killed waits until its old session has expired: by default 30 seconds.
    started["milvus"].environment["COMMON_SESSION_TTL"] = "10"
    with ExitStack() as ending:
        for server in started.values():
            server.launch()
            ending.callback(server.kill)
        for server in started.values():
            server.wait()
        yield started


def test_a_starting_process_waits_for_a_server_that_was_killed(
    tmp_path: Path, embedder: Embedder
) -> None:
    """The kill comes after the stores are open: the process neither ends nor works without them."""
    require("mariadb-server")
    with ExitStack() as ending:
        server = test_servers.mariadb(tmp_path / "mariadb")
        ending.callback(server.kill)
        server.start()
        settings = Settings(
            data_dir=tmp_path,
            database_url=server.url,
            store_timeout=3,
            worker="off",
            _env_file=None,
        )
        upgrade_schema(store_urls(settings))
        stores = ending.enter_context(connect_stores(settings))
        server.kill()
        started: list[str] = []

        def start() -> None:
            with run_services(settings, stores, GivenModel(embedder)) as services:
                started.append(services.models.active_version())

        starting = threading.Thread(target=start)
        starting.start()
        time.sleep(2)
        assert starting.is_alive()
        assert not started
        server.start()
        starting.join(60)
        assert started == [embedder.model_version]


def test_servers_killed_under_load_lose_nothing_that_was_acknowledged(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    stack = Stack(
        {
            "LOOKALIKE_DATABASE_URL": servers["mariadb"].url,
            "LOOKALIKE_OBJECTS_URL": servers["seaweedfs"].url,
            "LOOKALIKE_VECTORS_URL": servers["milvus"].url,
            "LOOKALIKE_STORE_TIMEOUT": "3",
            "LOOKALIKE_LEASE_SECONDS": "5",
            "LOOKALIKE_WORKER_INTERVAL": "0.2",
            "LOOKALIKE_SCRUB_GRACE": "0",
        },
        tmp_path,
    )
    assert stack.run("db", "upgrade").returncode == 0
    images = [encoded(part_of("coffee", seed)) for seed in range(400)]
    acknowledged: list[int] = []
    statuses: set[int] = set()
    stopping = threading.Event()

    with ExitStack() as ending:
        ending.callback(stack.stop)
        client = ending.enter_context(stack.replica())
        stack.start("worker")

        def load(number: int) -> None:
            with httpx.Client(base_url=client.base_url, timeout=60) as mine:
                for index in range(number, len(images), CLIENTS):
                    if stopping.is_set():
                        return
                    response = put(mine, images[index])
                    statuses.add(response.status_code)
                    if response.status_code in (200, 201, 202):
                        acknowledged.append(index)
                    else:
                        time.sleep(0.2)

        threads = [threading.Thread(target=load, args=(number,)) for number in range(CLIENTS)]
        ending.callback(lambda: [thread.join() for thread in threads])
        ending.callback(stopping.set)
        for thread in threads:
            thread.start()
        for server in servers.values():
            before = len(acknowledged)
            assert eventually(lambda before=before: len(acknowledged) > before + 8, 60), (
                stack.logs()
            )  # type: ignore[misc]
            server.kill()
            time.sleep(1.5)
            server.start(_RECOVERY)
        assert eventually(lambda: client.get("/readyz").status_code == 200, _RECOVERY), stack.logs()
        before = len(acknowledged)
        eventually(lambda: len(acknowledged) > before + 4, 30)
        stopping.set()
        for thread in threads:
            thread.join()

        assert statuses <= {200, 201, 202, 503}, statuses
        assert 503 in statuses
        metadata = SqlMetadataStore(Database(servers["mariadb"].url))
        ending.callback(metadata.close)
        drained = eventually(
            lambda: metadata.count_unfinished() + metadata.count_pending_embeddings() == 0,
            _RECOVERY,
        )
        assert drained, stack.logs()
        scrub(client)  # removes objects of uploads that were abandoned meanwhile
        assert scrub(client)["clean"]
        masters = client.get("/masters?limit=1000").json()["masters"]
        kept = {client.get(master["links"]["content"]).content for master in masters}
        assert {images[index] for index in acknowledged} <= kept
        assert len(kept) == len(masters)
        found = search(client, images[0], k=str(len(images)))
        assert {hit["master"]["id"] for hit in found} == {master["id"] for master in masters}  # type: ignore[index]


def scrub(client: httpx.Client) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        client.post("/admin/scrub", json={"repair": True, "full": True}).text.splitlines()[-1]
    )["report"]
    return report


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = Server("nothing", ["false"], lambda: False, tmp_path)
    with pytest.raises(CannotStart, match="nothing did not start"):
        server.start(5)
