"""Imported by the process that the service's processes are forked from: what they would all do first is done once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx  # noqa: F401

from app.bootstrap import connect_stores
from app.main import create_app
from app.settings import Settings
from tests.crash import service  # noqa: F401

with tempfile.TemporaryDirectory() as directory:
    _settings = Settings(data_dir=Path(directory) / "data", _env_file=None)
    create_app(_settings)
    with connect_stores(_settings):
        pass
