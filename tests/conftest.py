"""Fixtures every suite shares: real photographs, the real model, and the real service over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.logs import configure_logging
from app.settings import Settings
from models.embedder import Embedder, load_embedder
from tests.support.fleet import Fleet
from tests.support.service import Service, serving
from tests.support.tiny_network import accept_tiny_weights
from tests.support.weights import turned_weights

_fleet: Fleet | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers once, in the process that controls the run."""
    global _fleet  # noqa: PLW0603 - pytest gives its hooks no better place
    only_units = all("unit" in Path(argument.partition("::")[0]).parts for argument in config.args)
    if not hasattr(config, "workerinput") and not config.option.collectonly and not only_units:
        _fleet = Fleet()


def pytest_unconfigure() -> None:
    if _fleet is not None:
        _fleet.stop()


@pytest.fixture(scope="session", autouse=True)
def process_set_up() -> None:
    """Log errors alone, and let tiny weights be served wherever weights are."""
    configure_logging("error")
    accept_tiny_weights()


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return load_embedder(slots=2)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model version that finds alike: its embeddings are the shipped model's, turned, far from what they were."""
    return turned_weights(tmp_path_factory.mktemp("weights") / "turned.safetensors", 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", worker_interval=0.05, _env_file=None)


@pytest.fixture
def service(settings: Settings, embedder: Embedder) -> Iterator[Service]:
    with serving(settings, embedder) as running:
        yield running
