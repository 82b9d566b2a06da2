"""Fixtures of the unit tests. Tests about a network use the real one."""

from __future__ import annotations

import pytest

from models.embedder import Embedder
from tests.support import cheap_training as cheap


@pytest.fixture(scope="session")
def embedder(real_embedder: Embedder) -> Embedder:
    return real_embedder


@pytest.fixture
def small_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and evaluate on inputs of 64 x 64 pixels."""
    cheap.make_inputs_small(monkeypatch)


@pytest.fixture
def cheap_training(monkeypatch: pytest.MonkeyPatch, small_inputs: None) -> None:
    """Train on small inputs, with a projection that is not fitted."""
    cheap.make_fit_cheap(monkeypatch)
