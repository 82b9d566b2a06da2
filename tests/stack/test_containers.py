"""The commands, environments and health checks of docker-compose.yml, run without Docker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from tests.support import fleet
from tests.support.deployment import OUR_IMAGE, compose, dockerfile, example_variables, interpolated
from tests.support.images import encoded, photograph
from tests.support.servers import Server, free_ports, mariadb, milvus
from tests.support.service import eventually
from tests.support.system_packages import require

SECRETS = {
    name: value or uuid4().hex
    for name, value in example_variables().items()
    if name != "MORE_API_KEYS"
}
ADDRESSES = {
    "LOOKALIKE_DATABASE_URL": "mysql:3306",
    "LOOKALIKE_OBJECTS_URL": "minio:9000",
    "LOOKALIKE_VECTORS_URL": "milvus:19530",
}


class Container:
    """The command, environment and health check (``probe``) that Docker would use."""

    def __init__(self, name: str) -> None:
        self.service: dict[str, Any] = interpolated(compose()["services"][name], SECRETS)
        image = dockerfile()[-1] if self.service["image"] == OUR_IMAGE else None
        self.command: list[str] = self.service.get("command") or (
            image.argv("CMD") if image else []
        )
        self.environment: dict[str, str] = dict(self.service["environment"])
        check = self.service.get("healthcheck", {}).get("test")
        self.probe: list[str] = check[1:] if check else image.healthcheck if image else []
        if check and check[0] == "CMD-SHELL":
            self.probe = ["/bin/sh", "-c", *self.probe]
        if image:
            self.command = image.argv("ENTRYPOINT") + self.command
            self.environment = image.environment | self.environment
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"

    def healthy(self) -> bool:
        environment = os.environ | self.environment
        return (
            subprocess.run(
                self.probe, env=environment, capture_output=True, timeout=30, check=False
            ).returncode
            == 0
        )


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Run the callbacks of a test at its end."""
    with ExitStack() as stack:
        yield stack


class Ours:
    """Containers of our image, with their own database, bucket and collections on the servers."""

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self._directory, self._ending = directory, ending
        self.name = f"test_{uuid4().hex}"
        self.database = sa.create_engine(fleet.url_of("mariadb"))
        ending.callback(self.database.dispose)
        user, password = "lookalike", SECRETS["MYSQL_PASSWORD"]
        self.sql(
            f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4",
            f"CREATE OR REPLACE USER {user} IDENTIFIED BY '{password}'",
            f"GRANT ALL ON {self.name}.* TO {user}",
        )
        ending.callback(self.sql, f"DROP USER {user}")

    def sql(self, *statements: str) -> list[Any]:
        with self.database.connect() as connection:
            results = [connection.execute(sa.text(statement)) for statement in statements]
            return list(results[-1]) if results[-1].returns_rows else []

    def server(self, name: str) -> tuple[Container, Server]:
        """Return a container and its server, which is not started.

        Only the addresses and names of stores, the listening address, the data directory and the
        worker interval differ from the environment of the container.
        """
        container = Container(name)
        environment = container.environment
        for setting, address in ADDRESSES.items():
            assert urlsplit(environment[setting]).netloc.rpartition("@")[2] == address
        ours = sa.make_url(environment["LOOKALIKE_DATABASE_URL"])
        moved = ours.set(
            host=self.database.url.host, port=self.database.url.port, database=self.name
        )
        bucket = self.name.replace("_", "-")
        environment |= {
            "LOOKALIKE_DATABASE_URL": moved.render_as_string(hide_password=False),
            "LOOKALIKE_OBJECTS_URL": fleet.url_of("seaweedfs").replace(
                "/lookalike?", f"/{bucket}?"
            ),
            "LOOKALIKE_VECTORS_URL": fleet.url_of("milvus"),
            "LOOKALIKE_MILVUS_PREFIX": self.name,
            "LOOKALIKE_WORKER_INTERVAL": "0.1",
            "LOOKALIKE_HOST": "127.0.0.1",
            "LOOKALIKE_PORT": str(free_ports(1)[0]),
            "LOOKALIKE_DATA_DIR": str(self._directory / "data"),
        }
        server = Server(
            name, container.command, container.healthy, self._directory, environment=environment
        )
        self._ending.callback(server.stop)
        return container, server


def test_migrate_api_and_worker_run_answer_their_health_checks_and_stop(
    tmp_path: Path, ending: ExitStack
) -> None:
    ours = Ours(tmp_path, ending)
    _, migrate = ours.server("migrate")
    migrate.launch()
    assert migrate.process
    assert migrate.process.wait(60) == 0, (tmp_path / "migrate.log").read_text()
    running = [ours.server(name) for name in ("api", "worker")]
    assert not running[0][0].healthy()
    for _, server in running:
        server.launch()
    for _, server in running:
        server.wait(60)
    environment = running[0][1].environment
    url, photo = f"http://127.0.0.1:{environment['LOOKALIKE_PORT']}", encoded(photograph("coffee"))
    assert httpx.get(f"{url}/masters").status_code == 401
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {SECRETS['API_KEY']}"}, timeout=30
    ) as client:
        result = client.post("/masters", files={"file": ("coffee.jpg", photo)}).json()["results"][0]
        found = client.post("/search", files={"sample": ("sample.jpg", photo)}).json()["hits"]
        assert [(hit["master"]["id"], hit["exact"]) for hit in found] == [
            (result["master"]["id"], True)
        ]
        assert client.delete(f"/masters/{result['master']['id']}").status_code == 204
        removed = f"SELECT COUNT(*) = 0 FROM {ours.name}.masters"  # noqa: S608 - a name that the test made
        assert eventually(lambda: ours.sql(removed)[0][0] == 1, 30), (
            "the worker did not remove what was deleted"
        )
    for _, server in running:
        assert server.process
        server.process.terminate()
    codes = [server.process.wait(10) for _, server in running if server.process]
    # After its shutdown uvicorn ends by the signal, which an init process reports as 143.
    assert codes[0] in (0, -signal.SIGTERM)
    assert "Application shutdown complete" in (tmp_path / "api.log").read_text()
    assert codes[1] == 0, (tmp_path / "worker.log").read_text()
    assert not running[0][0].healthy()
    assert not (tmp_path / "data").exists()  # a container has a read-only file system
    ours.sql(f"DROP DATABASE {ours.name}")
    assert not running[1][0].healthy()


def test_the_database_takes_its_flags_and_answers_its_health_check(
    tmp_path: Path, ending: ExitStack
) -> None:
    """MariaDB replaces MySQL here; both know every flag that is set."""
    require("mariadb-server")
    container = Container("mysql")
    server = mariadb(tmp_path)
    values = {
        name: container.environment[f"MYSQL_{name}"] for name in ("DATABASE", "USER", "PASSWORD")
    }
    with (tmp_path / "start.sql").open("a") as file:  # the image does this at its first start
        file.write(
            "\nGRANT ALL ON {DATABASE}.* TO {USER} IDENTIFIED BY '{PASSWORD}';".format(**values)
        )
    server.command += container.command
    server.environment["PATH"] = container.environment["PATH"]
    container.environment["MYSQL_TCP_PORT"] = str(sa.make_url(server.url).port)
    assert not container.healthy()
    ending.callback(server.stop)
    server.start()
    assert container.healthy()
    engine = sa.create_engine(
        sa.make_url(server.url).set(username=values["USER"], password=values["PASSWORD"])
    )
    ending.callback(engine.dispose)
    flags = dict(
        flag.removeprefix("--").replace("-", "_").split("=")
        for flag in container.command
        if "=" in flag
    )
    with engine.connect() as connection:
        held = connection.execute(
            sa.text(f"SELECT {', '.join(f'@@{name}' for name in flags)}")
        ).one()
    megabytes = flags["innodb_buffer_pool_size"].removesuffix("M")
    flags["innodb_buffer_pool_size"] = str(int(megabytes) * 1024 * 1024)
    assert [str(value) for value in held] == list(flags.values())
    container.environment["MYSQL_PASSWORD"] = uuid4().hex
    assert not container.healthy()


def test_milvus_takes_its_environment_and_answers_its_health_check(
    tmp_path: Path, ending: ExitStack
) -> None:
    """The Milvus of the tests replaces the pinned one; only ports and directories differ."""
    container = Container("milvus")
    server = milvus(tmp_path)
    configs, binary = tmp_path / "configs", server.command[0]
    (configs / "milvus.yaml").write_text(
        re.sub(r"(timeTickInterval:) 20\b", r"\1 200", (configs / "milvus.yaml").read_text())
    )
    theirs = (configs / "etcd.yaml").read_text()
    listening = dict(
        re.findall(r"^((?:listen|advertise)-client-urls): (.+)$", theirs, flags=re.MULTILINE)
    )
    config = compose()["configs"]["milvus-etcd"]["content"]
    for name, address in listening.items():
        config = re.sub(rf"^{name}: .+$", f"{name}: {address}", config, flags=re.MULTILINE)
    peers = "\n".join(
        line for line in theirs.splitlines() if re.match("name|.*peer-urls|initial-cluster", line)
    )
    (configs / "embedEtcd.yaml").write_text(f"{config}\n{peers}\n")
    assert container.service["configs"] == [
        {"source": "milvus-etcd", "target": container.environment["ETCD_CONFIG_PATH"]}
    ]
    assert container.command == ["milvus", "run", "standalone"]
    server.command = [binary, *container.command[1:]]
    moved = {
        "ETCD_CONFIG_PATH": str(configs / "embedEtcd.yaml"),
        "ETCD_DATA_DIR": str(tmp_path / "etcd"),
    }
    server.environment |= container.environment | moved
    ending.callback(server.kill)
    server.start()
    *curl, address = container.probe
    assert (curl[0], urlsplit(address).port) == ("curl", 9091)
    probe = (
        urlsplit(address)
        ._replace(netloc=f"127.0.0.1:{server.environment['METRICS_PORT']}")
        .geturl()
    )
    assert httpx.get(probe).status_code == 200
    log = (tmp_path / "milvus.log").read_text()
    assert '"quota-backend-bytes":4294967296' in log
    assert '"auto-compaction-mode":"revision"' in log
    collections = f"{server.url}/v1/vector/collections"
    assert httpx.get(collections).status_code == 401
    # Milvus 2.3.5 has no setting for its first password.
    known = {"Authorization": "Bearer root:Milvus"}
    assert httpx.get(collections, headers=known).status_code == 200
    # The 20 ms of the environment give 50 ticks per second; the 200 ms of the file would give 9.
    assert any(time_ticks(probe) > 20 for _ in range(10))


def time_ticks(probe: str) -> float:
    """Return the number of ticks per second. The proxy requests a timestamp at each tick."""

    def count() -> float:
        metrics = httpx.get(probe.replace("/healthz", "/metrics")).text
        return float(
            re.findall(
                r"^milvus_proxy_apply_timestamp_latency_count\S* (\S+)$",
                metrics,
                flags=re.MULTILINE,
            )[0]
        )

    before, start = count(), time.monotonic()
    time.sleep(1)
    return (count() - before) / (time.monotonic() - start)
