"""The use cases on stores of their own, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.settings import Settings
from models.weights_file import WeightsFile
from storage.factory import StoreUrls, open_stores
from storage.protocols import Stores
from tests.support.use_cases import FakeClock, TinyEmbedder, UseCases, build_use_cases


def open_test_stores(directory: Path) -> Stores:
    directory.mkdir()
    urls = StoreUrls(
        f"sqlite:///{directory / 'lookalike.db'}", f"file://{directory / 'objects'}", "embedded:"
    )
    return open_stores(urls)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", upload_wait=3.0, scrub_grace=3600.0, _env_file=None)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with closing(open_test_stores(tmp_path / "stores")) as opened:
        yield opened


@pytest.fixture
def other_stores(tmp_path: Path) -> Iterator[Stores]:
    with closing(open_test_stores(tmp_path / "other")) as opened:
        yield opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def use_cases(settings: Settings, stores: Stores) -> Iterator[UseCases]:
    def load(weights: WeightsFile) -> TinyEmbedder:
        return TinyEmbedder(weights.version)

    built = build_use_cases(settings, stores, TinyEmbedder("model-1"), load)
    yield built
    built.models.stop()
