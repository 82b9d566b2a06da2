"""The embedded default starts without the libraries of the server backends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SERVER_LIBRARIES = ("grpc", "minio", "pandas", "pymilvus", "pymysql")
OPEN_EMBEDDED_STORES = """
import json, sys
from pathlib import Path

import app.bootstrap
import app.cli.main
from app.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]), _env_file=None)
with app.bootstrap.connect_stores(settings) as stores:
    stores.metadata.ping()
    stores.objects.ping()
    stores.vectors.ping()
print(json.dumps(sorted(sys.modules)))
"""


def test_embedded_stores_import_no_server_library(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_EMBEDDED_STORES, str(tmp_path / "data")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert "storage.vectors_exact" in imported
    assert imported.isdisjoint(SERVER_LIBRARIES)
