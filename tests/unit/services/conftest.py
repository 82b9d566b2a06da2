"""The use cases on stores in memory, which are new for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.services import removed_objects
from app.settings import Settings
from models.bundles.archive import Bundle
from models.embedder import Embedder, Encoder, load_embedder
from storage.protocols import Stores
from tests.support.memory_stores import open_memory_stores
from tests.support.use_cases import TODAY, FakeClock, TinyEmbedder, UseCases, build_use_cases


@pytest.fixture(scope="session")
def parsed_settings() -> Settings:
    """Settings that are parsed once, because parsing takes longer than most of these tests."""
    return Settings(upload_wait=3.0, scrub_grace=3600.0, _env_file=None)


@pytest.fixture
def settings(parsed_settings: Settings, tmp_path: Path) -> Settings:
    return parsed_settings.model_copy(update={"data_dir": tmp_path / "data"})


@pytest.fixture(autouse=True)
def fixed_day() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removed_objects, "today", lambda: TODAY)
        yield


@pytest.fixture
def stores() -> Stores:
    return open_memory_stores()


@pytest.fixture
def other_stores() -> Stores:
    return open_memory_stores()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def use_cases(settings: Settings, stores: Stores) -> Iterator[UseCases]:
    def load(encoder: Encoder) -> Embedder:
        """Build the real networks of a bundle; there is no tiny one for weights."""
        return (
            load_embedder(encoder) if isinstance(encoder, Bundle) else TinyEmbedder(encoder.version)
        )

    built = build_use_cases(settings, stores, TinyEmbedder("model-1"), load)
    yield built
    built.models.stop()
