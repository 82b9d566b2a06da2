"""Fixtures of the unit tests. Tests about a network use the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundles import check
from models.embedder import Embedder
from models.weights_file import WeightsFile
from tests.support import cheap_training as cheap


@pytest.fixture(scope="session")
def embedder(real_embedder: Embedder) -> Embedder:
    return real_embedder


@pytest.fixture
def untried_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept bundles without the process that tries them, which takes seconds."""
    costs = {"image_seconds": 0.001, "text_seconds": 0.001, "memory_bytes": 1_000_000}
    monkeypatch.setattr(check, "_try_in_child", lambda *_: costs)


@pytest.fixture
def small_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Project 256 features to 64 numbers."""
    cheap.reduce_dimensions(monkeypatch)


@pytest.fixture
def slim_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WeightsFile:
    """Weights of a slim ResNet, which all training of this test then uses."""
    cheap.slim_network(monkeypatch)
    return cheap.make_slim_weights(tmp_path / "slim.safetensors")
