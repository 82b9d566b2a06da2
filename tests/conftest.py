"""Fixtures that every suite shares: settings, networks, and a service over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from coverage import Coverage

from app.bootstrap import connect_stores
from app.logs import configure_logging
from app.settings import Settings
from models.embedder import Embedder, load_embedder
from models.weights_file import WeightsFile
from tests.support.fleet import MAKERS, Fleet
from tests.support.service import Service, serving, share_routes_and_document
from tests.support.system_packages import summarize_skipped
from tests.support.tiny_network import TinyNetwork, accept_tiny_weights, tiny_weights
from tests.support.weights import turned_weights

_SERVERS_OF = {"unit": (), "api": (), "crash": (), "web": ("seaweedfs",)}  # by suite; others: all
_ON_SERVERS = {  # parameters, fixtures and modules of the tests that use a server
    *("mysql", "mysql_database", "milvus", "s3", "mysql_url", "stack"),
    *("mysql_of_charset", "latin1", "utf8mb4 COLLATE utf8mb4_unicode_ci"),
    *("test_s3", "test_milvus", "test_filters_alike", "test_containers", "test_servers_killed"),
    *("test_milvus_shared_upserts", "test_server_connections", "test_shared_uploads"),
}
_MEASURED = {"unit", "contract"}  # suites whose coverage counts: tracing slows the others by half
_fleet: Fleet | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers that tests need, in the process that controls the run."""
    global _fleet  # noqa: PLW0603 - pytest gives its hooks no better place
    suites = [Path(argument.partition("::")[0]).parts for argument in config.args]
    needed = {server for parts in suites for server in _servers_of(parts)}
    needed = needed if "not servers" not in config.option.markexpr else set()
    if needed and not hasattr(config, "workerinput") and not config.option.collectonly:
        _fleet = Fleet(needed)


def _servers_of(parts: tuple[str, ...]) -> Iterable[str]:
    """Return the names of the servers that the tests below a path need."""
    return next((_SERVERS_OF[part] for part in parts if part in _SERVERS_OF), MAKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server."""
    for item in items:
        names = {item.path.stem, *getattr(item, "fixturenames", ())}
        if hasattr(item, "callspec"):
            names |= {value for value in item.callspec.params.values() if isinstance(value, str)}
        if names & _ON_SERVERS:
            item.add_marker(pytest.mark.servers)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Measure coverage only in the suites where it counts, from the set-up to the tear-down."""
    measured = item.path.relative_to(item.config.rootpath / "tests").parts[0] in _MEASURED
    stopped: list[Coverage] = []
    while not measured and (coverage := Coverage.current()):  # a worker of pytest-xdist has two
        coverage.stop()
        stopped.append(coverage)
    try:
        return (yield)
    finally:
        for coverage in reversed(stopped):
            coverage.start()


def pytest_unconfigure() -> None:
    if _fleet is not None:
        _fleet.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line with the missing system packages that caused skipped tests."""
    skipped = terminalreporter.stats.get("skipped", [])
    line = summarize_skipped(str(report.longrepr) for report in skipped)
    if line is not None:
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session", autouse=True)
def process_set_up() -> None:
    """Serve tiny weights as well as real ones, and start apps faster."""
    accept_tiny_weights()
    share_routes_and_document()


@pytest.fixture(autouse=True)
def log_errors_only() -> None:
    """Reset the logging before each test, because commands in this process change it."""
    configure_logging("error")


@pytest.fixture(scope="session")
def real_embedder() -> Embedder:
    """The shipped network, for tests whose subject it is."""
    return load_embedder(slots=2)


@pytest.fixture(scope="session")
def real_other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the shipped network, rotated: another version with the same distances."""
    return turned_weights(tmp_path_factory.mktemp("weights") / "turned.safetensors", 1)


@pytest.fixture(scope="session")
def tiny_weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network's weights file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    path.write_bytes(tiny_weights("first"))
    return path


@pytest.fixture(scope="session")
def embedder(tiny_weights_file: Path) -> Embedder:
    """The tiny network."""
    return TinyNetwork(WeightsFile.load(tiny_weights_file))


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny network of another version, with the same distances."""
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    path.write_bytes(tiny_weights("second"))
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", worker_interval=0.05, _env_file=None)


@pytest.fixture(scope="session")
def empty_installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an empty database of the newest schema, to be copied."""
    directory = tmp_path_factory.mktemp("installation") / "data"
    with connect_stores(Settings(data_dir=directory, _env_file=None)):
        return directory


@pytest.fixture
def service(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Service]:
    """An empty embedded service on the tiny network, or on the shipped one if so marked."""
    real = request.node.get_closest_marker("real_network") is not None
    network: Embedder = request.getfixturevalue("real_embedder" if real else "embedder")
    shutil.copytree(request.getfixturevalue("empty_installation"), settings.data_dir)
    with serving(settings, network) as running:
        yield running
