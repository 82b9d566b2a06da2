"""Imports for the warm process, from which the test processes are forked.

The startup work of every Lookalike process happens here once, so that a fork starts in milliseconds
while a new interpreter takes seconds. Nothing in this module may start a thread.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx  # noqa: F401
import minio  # noqa: F401
import pymilvus  # noqa: F401
import pymysql  # noqa: F401

import app.server
import app.start  # noqa: F401
from app.bootstrap import connect_stores
from app.main import create_app
from app.settings import Settings
from tests.support import tiny_network

with tempfile.TemporaryDirectory() as directory:
    _settings = Settings(data_dir=Path(directory) / "data", _env_file=None)
    create_app(_settings)
    with connect_stores(_settings):
        pass
tiny_network.accept_tiny_weights()
