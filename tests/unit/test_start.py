"""The start of the service: the model is loaded while the rest of the program is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import app.given_model
from app.given_model import GivenModel, start_loading
from app.settings import Settings
from models.embedder import Embedder
from models.errors import EncoderInvalid

# Starts the service, ends where it would answer requests, and prints what was imported by when.
START = """
import gc, json, sys

import app.start

seen = {}

def start_loading(settings):
    seen["before"] = sorted(sys.modules)
    import uvicorn
    uvicorn.Server.run = run
    return app.given_model.start_loading(settings)

def run(server, sockets):
    seen["after"] = sorted(sys.modules)
    seen["collects"] = gc.isenabled()
    sockets[0].close()

app.start.start_loading = start_loading
app.start.serve(data_dir=sys.argv[1], port=0)
print(json.dumps(seen))
"""


def start(data_dir: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", START, str(data_dir)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_a_start_loads_the_model_first_and_imports_alembic_only_to_upgrade(
    tmp_path: Path,
) -> None:
    first, second = start(tmp_path / "data"), start(tmp_path / "data")
    assert set(first["before"]).isdisjoint({"alembic", "fastapi", "openvino", "sqlalchemy"})
    assert {"alembic", "fastapi", "openvino", "sqlalchemy"} <= set(first["after"])
    assert "alembic" not in second["after"]
    assert (first["collects"], second["collects"]) == (True, True)


def test_a_model_is_loaded_while_the_caller_goes_on(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, loaded = threading.Event(), GivenModel(embedder)

    def load(_: Settings) -> GivenModel:
        assert go_on.wait(30)
        return loaded

    monkeypatch.setattr(app.given_model, "load_given_model", load)
    loading = start_loading(Settings(_env_file=None))
    assert not loading.done()
    go_on.set()
    assert loading.result(30) is loaded


def test_a_model_that_cannot_be_loaded_is_reported_to_the_caller(tmp_path: Path) -> None:
    loading = start_loading(Settings(weights=tmp_path / "none.safetensors", _env_file=None))
    with pytest.raises(EncoderInvalid, match="cannot be read"):
        loading.result(30)
