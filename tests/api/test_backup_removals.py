"""`lookalike backup` and what it removes: limits, where it goes, and databases that went back."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
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


def back_up(settings: Settings, directory: Path, *options: str) -> Result:
    return run_on(settings.data_dir, "backup", str(directory), *options)


def put_masters(service: Service, count: int, first: int = 0) -> list[dict[str, Any]]:
    seeds = range(first, first + count)
    return [service.put_master(encoded(part_of("coffee", seed, (64, 48)))) for seed in seeds]


def originals(directory: Path) -> set[str]:
    return {path.stem for path in (directory / "objects" / "masters").rglob("*.jpg")}


def removed(directory: Path) -> set[str]:
    return {path.stem for path in (directory / "objects" / "removed").rglob("*.jpg")}


def state_of(directory: Path) -> dict[str, bytes]:
    """Return every file of a backup but the database, which SQLite touches when it is opened."""
    return {
        str(path): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith("lookalike.db")
    }


def copy_database(settings: Settings, target: Path) -> None:
    """Dump the database, as an administrator does before a change."""
    with (
        sqlite3.connect(settings.data_dir / "lookalike.db") as source,
        sqlite3.connect(target) as dump,
    ):
        source.backup(dump)


def roll_back(settings: Settings, dump: Path) -> None:
    remove_database(settings.data_dir)
    shutil.copy(dump, settings.data_dir / "lookalike.db")


def test_a_backup_goes_on_after_all_masters_were_deleted_in_one_step(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        old = service.put_master(CAT)["id"]
        assert back_up(settings, directory).returncode == 0
        assert (
            service.client.delete("/masters?collection=default&confirm=default").status_code == 204
        )
        (new,) = put_masters(service, 1)
        for _ in range(2):
            again = back_up(settings, directory)
            assert again.returncode == 0, again
    assert originals(directory) == {new["id"]}
    assert removed(directory) == {old}


def test_an_emptied_installation_asks_before_an_older_backup_is_overwritten(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        service.put_master(CAT)
        assert back_up(settings, directory).returncode == 0
        manifest = json.loads((directory / "backup.json").read_text())
        known = {name: manifest[name] for name in ("complete", "vectors", "at")}
        (directory / "backup.json").write_text(json.dumps(known))  # as an earlier version wrote it
        service.client.delete("/masters?collection=default&confirm=default")
        refused = back_up(settings, directory)
        assert (refused.returncode, "--allow-removal" in refused.stderr) == (3, True), refused
        assert back_up(settings, directory, "--allow-removal").returncode == 0


def test_a_run_that_would_remove_many_changes_nothing_unless_it_is_told_to(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory, dump = tmp_path / "backup", tmp_path / "dump.db"
    with serving(settings, embedder) as service:
        put_masters(service, 5)
        assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
    copy_database(settings, dump)
    with serving(settings, embedder) as service:
        put_masters(service, 20, first=5)
    assert back_up(settings, directory).returncode == 0
    before = state_of(directory)
    assert len(originals(directory)) == 25
    roll_back(settings, dump)
    for _ in range(2):
        refused = back_up(settings, directory)
        assert refused.returncode == 3, refused
        assert "would remove 20 of the 25 masters" in refused.stderr
        assert "--allow-removal" in refused.stderr
        assert state_of(directory) == before
    allowed = back_up(settings, directory, "--allow-removal")
    assert (allowed.returncode, "20 removed" in allowed.stderr) == (0, True), allowed
    assert len(originals(directory)) == 5
    assert len(removed(directory)) == 20
    assert run_on(tmp_path / "restored", "restore", str(directory)).returncode == 0


@pytest.mark.parametrize("change", ["upload", "attributes"])
def test_a_database_that_is_older_than_the_backup_is_noticed(
    settings: Settings, embedder: Embedder, tmp_path: Path, change: str
) -> None:
    directory, dump = tmp_path / "backup", tmp_path / "dump.db"
    with serving(settings, embedder) as service:
        first, *_ = put_masters(service, 3)
        assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
    copy_database(settings, dump)
    with serving(settings, embedder) as service:
        if change == "upload":
            put_masters(service, 1, first=3)
        else:
            service.client.patch(f"/masters/{first['id']}", json={"name": "new.jpg"})
        assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
    assert back_up(settings, directory).returncode == 0
    before = state_of(directory)
    roll_back(settings, dump)
    refused = back_up(settings, directory)
    assert (refused.returncode, "older than the backup" in refused.stderr) == (3, True), refused
    assert state_of(directory) == before
    assert back_up(settings, directory, "--allow-removal").returncode == 0


def test_the_last_upload_may_be_deleted(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        *_, last = put_masters(service, 3)
        assert back_up(settings, directory).returncode == 0
        service.client.delete(f"/masters/{last['id']}")
        assert back_up(settings, directory).returncode == 0
    assert removed(directory) == {last["id"]}


def test_what_a_backup_removed_expires(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        gone, kept = (each["id"] for each in put_masters(service, 2))
        assert back_up(settings, directory).returncode == 0
        service.client.delete(f"/masters/{gone}")
        assert back_up(settings, directory).returncode == 0
        (day,) = (directory / "objects" / "removed").iterdir()
        old = day.rename(day.with_name("2001-01-01"))
        assert back_up(settings, directory, "--keep-removed", "40000").returncode == 0
        assert removed(directory) == {gone}
        assert back_up(settings, directory).returncode == 0
    assert (old.exists(), originals(directory)) == (False, {kept})
    with serving(settings.model_copy(update={"data_dir": directory}), embedder) as service:
        assert service.client.get("/masters").json()["masters"][0]["id"] == kept


def test_a_restored_installation_keeps_its_backup(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    assert back_up(settings, directory).returncode == 0
    restored = settings.model_copy(update={"data_dir": tmp_path / "restored"})
    assert run_on(restored.data_dir, "restore", str(directory)).returncode == 0
    with serving(restored, embedder) as service:
        put_masters(service, 1)
        service.client.delete("/collections/default?confirm=default")
        put_masters(service, 1)
        for _ in range(2):
            assert back_up(restored, directory).returncode == 0
    assert len(originals(directory)) == 1


def test_a_scrub_leaves_what_is_not_a_master_alone(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        gone, _ = put_masters(service, 2)
        assert back_up(settings, directory).returncode == 0
        service.client.delete(f"/masters/{gone['id']}")
        assert back_up(settings, directory).returncode == 0
    for each in (settings, settings.model_copy(update={"data_dir": directory})):
        with serving(each, embedder) as service:
            assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
            text = service.client.post("/admin/scrub", json={"repair": True}).text
            assert json.loads(text.splitlines()[-1])["report"]["clean"] is True, text
    assert removed(directory) == {gone["id"]}


def test_a_backup_that_lost_its_database_is_recovered_and_restored(
    settings: Settings, embedder: Embedder, tiny_weights_file: Path, tmp_path: Path
) -> None:
    directory, restored = tmp_path / "backup", tmp_path / "restored"
    with serving(settings, embedder) as service:
        master = service.put_master(CAT, "räume.jpg", attributes='{"n": 1.5}')
        assert back_up(settings, directory).returncode == 0
    remove_database(directory)
    refused = run_on(restored, "restore", str(directory))
    assert (refused.returncode, "lookalike recover" in refused.stderr) == (2, True), refused
    weights = str(tiny_weights_file)
    done = run_on(directory, "recover", "--apply", LOOKALIKE_WEIGHTS=weights)
    assert done.returncode == 0, done
    assert run_on(restored, "restore", str(directory)).returncode == 0
    with serving(settings.model_copy(update={"data_dir": restored}), embedder) as service:
        (found,) = service.client.get("/masters").json()["masters"]
    assert (found["id"], found["name"], found["attributes"]) == (
        *(master["id"], "räume.jpg", {"n": 1.5}),
    )
