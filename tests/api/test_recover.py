"""`lookalike recover`: the database is lost or older, and everything comes back."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.services.installation_id import BucketRefused
from app.settings import Settings
from models.embedder import Embedder
from tests.support.decisions import decide, decisions_of
from tests.support.embedded import run_on
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.installations import IMAGES, answers, remove_database
from tests.support.service import Service, eventually, serving

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def recover(settings: Settings, tiny_weights_file: Path) -> Any:
    def run(*options: str, **environment: str) -> Result:
        environment.setdefault("LOOKALIKE_WEIGHTS", str(tiny_weights_file))
        return run_on(settings.data_dir, "recover", *options, **environment)

    return run


def fill(service: Service) -> None:
    for number, image in enumerate(IMAGES):
        attributes = f'{{"n": {number}, "half": {number / 2}, "tag": "größe"}}'
        service.put_master(image, f"räume {number}.jpg", attributes=attributes)
    service.put_master(CAT, "cat.jpg", collection="animals")
    service.client.post("/collections", json={"name": "empty"})


def settle(service: Service) -> dict[str, Any]:
    """Wait for the worker, and return everything that the service shows."""
    assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0, 30)
    assert eventually(lambda: service.stores.metadata.count_unfinished() == 0)
    return answers(service.client)


def write_catalogue(settings: Settings) -> None:
    assert run_on(settings.data_dir, "catalogue").returncode == 0


def lose_database(settings: Settings) -> None:
    remove_database(settings.data_dir)


def dump_database(settings: Settings, target: Path) -> None:
    with (
        sqlite3.connect(settings.data_dir / "lookalike.db") as source,
        sqlite3.connect(target) as dump,
    ):
        source.backup(dump)


def test_a_lost_database_comes_back_from_the_catalogue(
    settings: Settings, embedder: Embedder, recover: Any
) -> None:
    with serving(settings, embedder) as service:
        fill(service)
        gone = service.put_master(encoded(photograph("rocket")))["id"]
        service.client.delete(f"/masters/{gone}")
        before = settle(service)
        decided = decide(service.stores.metadata)
        busy = recover()
        assert (busy.returncode, "another process" in busy.stderr) == (2, True), busy
    write_catalogue(settings)
    lose_database(settings)
    dry = recover()
    assert dry.returncode == 0, dry
    assert "13 would be recovered with name and attributes" in dry.stdout
    assert "3 decisions about duplicates would be recovered" in dry.stdout
    assert "--apply" in dry.stdout
    assert not (settings.data_dir / "lookalike.db").exists()
    done = recover("--apply")
    assert done.returncode == 0, done
    assert "13 were recovered with name and attributes" in done.stdout
    assert embedder.model_version in done.stdout
    assert "13 masters are in the database already" in recover("--apply").stdout
    with serving(settings, embedder) as service:
        assert settle(service) == before
        assert decisions_of(service.stores.metadata) == decided
        assert service.client.get(f"/masters/{gone}").status_code == 404
        service.put_master(encoded(photograph("rocket")))
    write_catalogue(settings)  # the database may update it again


def test_a_database_from_an_earlier_dump_catches_up(
    settings: Settings, embedder: Embedder, recover: Any, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        fill(service)
        settle(service)
    dump_database(settings, tmp_path / "dump.db")
    with serving(settings, embedder) as service:
        first, second, *_ = service.client.get("/masters").json()["masters"]
        service.client.patch(
            f"/masters/{first['id']}", json={"name": "new", "attributes": {"a": 1}}
        )
        service.client.delete(f"/masters/{second['id']}")
        for seed in range(20, 23):
            service.put_master(encoded(part_of("astronaut", seed)), attributes='{"late": true}')
        service.client.delete("/masters?collection=animals&confirm=animals")
        service.put_master(encoded(photograph("rocket")), "rocket.jpg", collection="animals")
        before = settle(service)
    write_catalogue(settings)
    lose_database(settings)
    shutil.copy(tmp_path / "dump.db", settings.data_dir / "lookalike.db")
    with serving(settings, embedder) as service:
        (warning,) = service.client.get("/readyz").json()["warnings"]
        assert "older than the catalogue" in warning
        assert "lookalike recover" in warning
    done = recover("--apply", LOOKALIKE_SCRUB_GRACE="0")
    assert done.returncode == 0, done
    with serving(settings, embedder) as service:
        assert settle(service) == before
        assert service.client.get("/readyz").json()["warnings"] == []


def test_without_a_catalogue_the_originals_come_back(
    settings: Settings, embedder: Embedder, recover: Any
) -> None:
    with serving(settings, embedder) as service:
        fill(service)
        before = settle(service)
    lose_database(settings)
    with pytest.raises(BucketRefused, match="lookalike recover"), serving(settings, embedder):
        pytest.fail("a new database serves the bucket of a lost one")
    done = recover("--apply")
    assert done.returncode == 0, done
    assert "13 were recovered from the original alone" in done.stdout
    with serving(settings, embedder) as service:
        after = settle(service)
    for collection in ("default", "animals"):
        for was, now in zip(
            before[collection]["masters"], after[collection]["masters"], strict=True
        ):
            changed = {"name", "attributes", "capture", "revision", "created_at", "updated_at"}
            assert {key: was[key] for key in was.keys() - changed} == {
                key: now[key] for key in now.keys() - changed
            }
            assert (now["name"], now["attributes"]) == (f"{was['id']}.jpg", {})
        assert before[f"{collection} bytes"] == after[f"{collection} bytes"]


def test_a_directory_without_originals_is_refused(recover: Any, settings: Settings) -> None:
    refused = recover()
    assert (refused.returncode, "there are no originals" in refused.stderr) == (2, True)
    assert not settings.data_dir.exists()
