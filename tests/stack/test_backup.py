"""`lookalike backup` of servers in use, and `lookalike restore` into servers."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from models.embedder import Embedder
from tests.support.decisions import decide, decisions_of
from tests.support.images import CAT, encoded, photograph
from tests.support.installations import IMAGES, answers, comes_to_show
from tests.support.requests import put, result_of
from tests.support.service import serving
from tests.support.stack import Stack


def test_servers_are_backed_up_and_the_backup_can_be_served(
    stack: Stack, tmp_path: Path, settings: Settings, embedder: Embedder
) -> None:
    directory = tmp_path / "backup"
    with stack.replica() as client:
        stack.start("worker")
        for image in IMAGES:
            assert put(client, image).status_code == 201
        client.post(
            "/masters",
            files={"file": ("cat.jpg", CAT)},
            data={"collection": "animals", "attributes": '{"n": 1}'},
        )
        gone = result_of(put(client, encoded(photograph("rocket"))))["master"]["id"]
        with stack.open_stores() as stores:
            decided = decide(stores.metadata)
        first = stack.run("backup", str(directory), "--vectors")
        assert (
            first.returncode,
            "14 masters copied and verified, 0 were already present, 0 failed." in first.stderr,
        ) == (
            0,
            True,
        ), first
        client.delete(f"/masters/{gone}")
        second = stack.run("backup", str(directory), "--vectors")
        assert (
            "0 masters copied and verified, 13 were already present, 0 failed."
            " 0 changed, 1 removed." in second.stderr
        ), second
        before = answers(client)
    with serving(settings.model_copy(update={"data_dir": directory}), embedder) as service:
        assert answers(service.client) == before
        assert decisions_of(service.stores.metadata) == decided


def test_a_backup_is_restored_into_servers(
    stack: Stack, tmp_path: Path, settings: Settings, embedder: Embedder
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        for image in IMAGES:
            service.put_master(image)
        service.put_master(CAT, collection="animals")
        decided = decide(service.stores.metadata)
        before = answers(service.client)
        environment = {"LOOKALIKE_DATA_DIR": str(settings.data_dir)}
        embedded = {
            "LOOKALIKE_DATABASE_URL": "",
            "LOOKALIKE_OBJECTS_URL": "",
            "LOOKALIKE_VECTORS_URL": "embedded:",
        }
        assert stack.run("backup", str(directory), **environment, **embedded).returncode == 0
    stack.create_collections()
    restored = stack.run("restore", str(directory))
    assert (restored.returncode, "13 masters copied and verified" in restored.stderr) == (
        0,
        True,
    ), restored
    assert "13 have no vector in the backup" in restored.stderr
    with stack.open_stores() as stores:
        assert decisions_of(stores.metadata) == decided
    with stack.replica() as client:
        stack.start("worker")
        assert comes_to_show(client, before, 60)


def test_an_installation_that_moved_to_servers_keeps_its_backup(
    stack: Stack, tmp_path: Path, settings: Settings, embedder: Embedder
) -> None:
    directory = tmp_path / "backup"
    embedded = {
        "LOOKALIKE_DATA_DIR": str(settings.data_dir),
        "LOOKALIKE_DATABASE_URL": "",
        "LOOKALIKE_OBJECTS_URL": "",
        "LOOKALIKE_VECTORS_URL": "embedded:",
    }
    with serving(settings, embedder) as service:
        gone = service.put_master(CAT)["id"]
        service.put_master(IMAGES[0])
    assert stack.run("backup", str(directory), **embedded).returncode == 0
    stack.create_collections()
    assert stack.run("copy", "--from", str(settings.data_dir)).returncode == 0
    with stack.replica() as client:
        client.delete(f"/masters/{gone}")
        done = stack.run("backup", str(directory))
        assert (done.returncode, "1 removed" in done.stderr) == (0, True), done
