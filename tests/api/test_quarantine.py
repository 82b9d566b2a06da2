"""A database that lost rows, and a repair: nothing is lost, and everything can come back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from models.embedder import Embedder
from tests.support.embedded import run_on
from tests.support.images import CAT, encoded, part_of
from tests.support.installations import remove_database
from tests.support.service import Service, eventually, serving

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"scrub_grace": 0.0})


@pytest.fixture
def run(settings: Settings, tiny_weights_file: Path) -> Any:
    """Run a command on the installation, without a service."""

    def run(*arguments: str, **environment: str) -> Result:
        environment.setdefault("LOOKALIKE_WEIGHTS", str(tiny_weights_file))
        environment.setdefault("LOOKALIKE_SCRUB_GRACE", "0")
        environment.setdefault("LOOKALIKE_URL", "http://127.0.0.1:9")
        return run_on(settings.data_dir, *arguments, **environment)

    return run


def upload(service: Service, *seeds: int) -> dict[str, bytes]:
    """Upload one image for each seed, and return the bytes by id."""
    images = [encoded(part_of("coffee", seed)) for seed in seeds]
    uploaded = {service.put_master(image)["id"]: image for image in images}
    assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0, 30)
    return uploaded


def originals(settings: Settings) -> dict[str, bytes]:
    folder = settings.data_dir / "objects" / "masters"
    return {path.stem: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dump_database(settings: Settings, target: Path) -> None:
    with (
        sqlite3.connect(settings.data_dir / "lookalike.db") as source,
        sqlite3.connect(target) as dump,
    ):
        source.backup(dump)


def lose_database(settings: Settings, dump: Path | None = None) -> None:
    """Remove the database, and put a dump in its place."""
    remove_database(settings.data_dir)
    if dump:
        shutil.copy(dump, settings.data_dir / "lookalike.db")


def empty_database(settings: Settings) -> None:
    """Delete every row but the database's id."""
    database = sqlite3.connect(settings.data_dir / "lookalike.db")
    with closing(database), database:
        for table in ("embeddings", "vectors", "masters", "collections", "model_versions"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608


def test_a_repair_after_an_earlier_dump_was_restored_keeps_the_later_uploads(
    settings: Settings, embedder: Embedder, run: Any, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        images = upload(service, 1, 2)
    dump_database(settings, tmp_path / "dump.db")
    with serving(settings, embedder) as service:
        images |= upload(service, *range(10, 30))
    lose_database(settings, tmp_path / "dump.db")
    refused = run("scrub", "--repair", "--full")
    assert refused.returncode == 3, refused
    assert "20 of 22 originals belong to no master" in refused.stderr
    assert "--allow-removal" in refused.stderr
    assert "20" in refused.stdout
    assert originals(settings) == images
    done = run("recover", "--apply")
    assert done.returncode == 0, done
    with serving(settings, embedder) as service:
        for id_, image in images.items():
            assert service.client.get(f"/masters/{id_}/content").content == image


def test_a_repair_of_a_database_older_than_the_catalogue_changes_nothing(
    settings: Settings, embedder: Embedder, run: Any, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        images = upload(service, 1, 2)
    dump_database(settings, tmp_path / "dump.db")
    with serving(settings, embedder) as service:
        images |= upload(service, 3)
    assert run("catalogue").returncode == 0
    lose_database(settings, tmp_path / "dump.db")
    refused = run("scrub", "--repair", "--json")
    assert refused.returncode == 3, refused
    report = json.loads(refused.stdout)
    assert "older than the catalogue" in report["refused"]
    assert (report["found"], report["repaired"]) == ({"object-unknown": 1}, {})
    assert originals(settings) == images
    assert run("recover", "--apply").returncode == 0
    assert run("scrub", "--repair", "--full").returncode in (0, 1)  # it may repair again
    assert originals(settings) == images


def test_the_worker_removes_nothing_if_the_database_is_empty(
    settings: Settings, embedder: Embedder
) -> None:
    with serving(settings, embedder) as service:
        images = upload(service, 1, 2, 3)
    empty_database(settings)
    changed = {"scrub_interval": 0.2, "scrub_rate": 1000.0, "scrub_repair": True}
    with serving(settings.model_copy(update=changed), embedder) as service:
        assert eventually(
            lambda: "lookalike_scrub_refused 1.0" in service.client.get("/metrics").text
        )
        assert eventually(
            lambda: (
                'lookalike_scrub_findings{kind="object-unknown"} 3.0'
                in service.client.get("/metrics").text
            )
        )
        assert originals(settings) == images
    assert not (settings.data_dir / "objects" / "quarantine").exists()


def test_what_a_repair_removed_comes_back(
    settings: Settings, embedder: Embedder, run: Any, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        images = upload(service, 1)
    dump_database(settings, tmp_path / "dump.db")
    with serving(settings, embedder) as service:
        later = upload(service, 2, 3)
    lose_database(settings, tmp_path / "dump.db")
    repaired = run("scrub", "--repair")
    assert repaired.returncode == 1, repaired
    assert "lookalike quarantine list" in repaired.stdout
    assert originals(settings) == images
    lose_database(settings)
    listed = run("quarantine", "list")
    assert listed.returncode == 0, listed
    assert all(f"{id_}.jpg" in listed.stdout for id_ in later), listed
    assert "2 objects" in listed.stderr
    assert "30 days" in listed.stderr
    first, second = later
    restored = run("quarantine", "restore", first)
    assert restored.returncode == 0, restored
    assert "lookalike recover" in restored.stderr
    unknown = run("quarantine", "restore", first, second)
    assert (unknown.returncode, "1 objects were restored" in unknown.stderr) == (1, True), unknown
    assert f"{first}: not in quarantine" in unknown.stderr
    assert originals(settings) == images | later
    assert "empty" in run("quarantine", "list").stderr
    assert run("recover", "--apply").returncode == 0
    with serving(settings, embedder) as service:
        for id_, image in (images | later).items():
            assert service.client.get(f"/masters/{id_}/content").content == image


def test_everything_is_restored_at_once_or_nothing_by_mistake(
    settings: Settings, embedder: Embedder, run: Any
) -> None:
    nowhere = run("quarantine", "list")
    assert (nowhere.returncode, "LOOKALIKE_DATA_DIR" in nowhere.stderr) == (2, True)
    with serving(settings, embedder) as service:
        images = upload(service, *range(12))
    empty_database(settings)
    assert run("scrub", "--repair").returncode == 3
    assert originals(settings) == images
    assert run("scrub", "--repair", "--allow-removal").returncode == 1
    assert originals(settings) == {}
    for arguments in ([], ["--all", "a"]):
        assert run("quarantine", "restore", *arguments).returncode == 2
    first, *_ = lines = run("quarantine", "list", "--json").stdout.splitlines()
    assert len(lines) == 12
    changed = settings.data_dir / "objects" / json.loads(first)["key"]
    changed.parent.mkdir(parents=True)
    changed.write_bytes(CAT)
    partly = run("quarantine", "restore", "--all")
    assert (partly.returncode, "other bytes" in partly.stderr) == (1, True), partly
    assert originals(settings) == images | {changed.stem: CAT}
    assert "0 objects were deleted" in run("quarantine", "expire", "--days", "0").stderr


def test_the_api_needs_to_be_told_to_remove_more(settings: Settings, embedder: Embedder) -> None:
    with serving(settings, embedder) as service:
        images = upload(service, 1)
    empty_database(settings)
    with serving(settings, embedder) as service:
        for options in ({"repair": True}, {"repair": True, "allow_removal": True}):
            response = service.client.post("/admin/scrub", json=options)
            report = json.loads(response.text.splitlines()[-1])["report"]
            allowed = "allow_removal" in options
            assert (bool(report["refused"]), report["repair"]) == (not allowed, allowed)
            assert originals(settings) == ({} if allowed else images)
