"""The service as a process: start, stop, kill, restart, and settings that it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from app.settings import Settings
from models.embedder import Embedder
from tests.support.embedded import (
    free_port,
    run_on,
    serve_fork,
    serve_interpreter,
    start_fork,
    start_interpreter,
)
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import serving


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    port = free_port()
    images = [encoded(part_of("coffee", seed)) for seed in range(10)]
    with serve_interpreter(tmp_path, port) as (running, client):
        masters = [
            client.post("/masters", files={"file": ("a.jpg", image)}).json()["results"][0]["master"]
            for image in images
        ]
        client.delete(f"/masters/{masters[0]['id']}")
        running.send_signal(signal.SIGKILL)
        running.wait()
    with serve_interpreter(tmp_path, port) as (_, client):
        assert client.get("/masters").json()["total"] == 9
        for image, master in zip(images[1:], masters[1:], strict=True):
            assert client.get(master["links"]["content"]).content == image
            (first, *_) = client.post(
                "/search", files={"sample": ("a.jpg", image)}, data={"k": "1"}
            ).json()["hits"]
            assert (first["master"]["id"], first["exact"]) == (master["id"], True)
        assert client.get(f"/masters/{masters[0]['id']}").status_code == 404


def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with serve_fork(tmp_path, free_port()):
        second = start_fork(tmp_path, free_port())
        _, said = second.communicate(timeout=30)
    assert second.returncode == 2
    assert "another process serves" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["scrub", "recover"])
def test_commands_on_the_stores_of_a_service_are_refused_from_another_directory(
    tmp_path: Path, command: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "objects").mkdir(parents=True)
    (second / "lookalike.db").touch()
    with serve_fork(first, free_port()) as (running, _):
        urls = {
            "LOOKALIKE_DATABASE_URL": f"sqlite:///{first}/lookalike.db",
            "LOOKALIKE_URL": "http://127.0.0.1:9",
        }
        refused = run_on(second, command, **urls)
        said = " ".join(refused.stderr.split())
        assert (refused.returncode, f"(process {running.pid} on" in said) == (2, True), refused


def test_commands_find_a_database_that_only_its_url_names(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    urls = {
        "LOOKALIKE_DATABASE_URL": f"sqlite:///{first}/lookalike.db",
        "LOOKALIKE_OBJECTS_URL": f"file://{first}/objects",
        "LOOKALIKE_URL": "http://127.0.0.1:9",
    }
    with serve_fork(first, free_port()) as (_, client):
        client.post("/masters", files={"file": ("a.jpg", CAT)})
        backup = run_on(second, "backup", str(tmp_path / "backup"), **urls)
        assert "1 masters copied" in backup.stderr, backup
        catalogue = run_on(second, "catalogue", **urls)
        assert "shows 1 masters" in catalogue.stderr, catalogue
    scrubbed = run_on(second, "scrub", **urls)
    assert scrubbed.returncode == 0, scrubbed
    wrong = urls | {"LOOKALIKE_DATABASE_URL": f"sqlite:///{first}/none.db"}
    refused = run_on(second, "scrub", **wrong)
    said = " ".join(refused.stderr.split())
    assert (refused.returncode, "there is no database" in said) == (2, True), refused
    assert not (first / "none.db").exists()


@pytest.mark.slow
def test_a_graceful_stop_ends_with_0_and_logs_json(tmp_path: Path) -> None:
    with serve_interpreter(tmp_path, free_port()) as (running, client):
        client.post("/masters", files={"file": ("a.jpg", CAT)})
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
    assert running.returncode == 0
    assert not list(tmp_path.glob("*.db-wal"))  # the database was closed cleanly
    lines = [json.loads(line) for line in said.splitlines()]
    request = next(
        line for line in lines if line["event"] == "request" and line["path"] == "/masters"
    )
    assert (request["status"], request["method"]) == (201, "POST")
    assert request["request_id"]


@pytest.mark.slow
def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = start_interpreter(tmp_path, taken.getsockname()[1])
        _, said = refused.communicate(timeout=30)
    assert refused.returncode == 2
    assert "LOOKALIKE_PORT" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"LOOKALIKE_HOST": "0.0.0.0"}, "without an API key"),
        ({"LOOKALIKE_API_KEYS": "secret"}, "LOOKALIKE_API_KEYS"),
        ({"LOOKALIKE_DATABASE_URL": "oracle://x"}, "LOOKALIKE_DATABASE_URL"),
        ({"LOOKALIKE_DATA_DIR": "/proc/nowhere"}, "LOOKALIKE_DATA_DIR"),
        ({"LOOKALIKE_WEIGHTS": "/nowhere/weights.safetensors"}, "weights"),
        ({"LOOKALIKE_PORT": "many"}, "LOOKALIKE_PORT"),
    ],
)
def test_unusable_settings_are_reported_without_a_traceback(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    refused = start_fork(tmp_path, free_port(), **settings)
    _, said = refused.communicate(timeout=30)
    assert refused.returncode == 2
    assert expected in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["a#1", "a%41", "a?x", "a b", "ü"])
def test_everything_stays_inside_the_data_directory_whatever_its_name(
    tmp_path: Path, name: str
) -> None:
    with serve_fork(tmp_path / name, free_port()) as (_, client):
        assert client.post("/masters", files={"file": ("a.jpg", CAT)}).status_code == 201
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (tmp_path / name).iterdir()} >= {
        "lookalike.db.lock",
        "lookalike.db",
        "objects",
    }


def open_to_others(directory: Path) -> list[str]:
    """Return what others than the owner may use in some way, with its permissions."""
    paths = [directory, *directory.rglob("*")]
    return [f"{path} {path.stat().st_mode:o}" for path in paths if path.stat().st_mode & 0o077]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_other_users_of_the_machine_cannot_read_an_installation(
    tmp_path: Path, embedder: Embedder, umask: int
) -> None:
    settings = Settings(data_dir=tmp_path / "data", worker_interval=0.05, _env_file=None)
    before = os.umask(umask)
    try:
        with serving(settings, embedder) as service:
            service.put_master(CAT)
            assert (settings.data_dir / "lookalike.db-wal").exists()
            assert open_to_others(settings.data_dir) == []
            assert run_on(settings.data_dir, "backup", str(tmp_path / "backup")).returncode == 0
            assert open_to_others(tmp_path / "backup") == []
    finally:
        os.umask(before)


def test_an_installation_that_others_could_read_is_closed_at_the_start(
    tmp_path: Path, embedder: Embedder
) -> None:
    settings = Settings(data_dir=tmp_path / "data", worker_interval=0.05, _env_file=None)
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    for path in (settings.data_dir, *settings.data_dir.iterdir()):
        path.chmod(0o777 if path.is_dir() else 0o666)
    with serving(settings, embedder) as service:
        assert open_to_others(settings.data_dir) == []
        assert service.search(CAT)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with serve_fork(tmp_path, free_port()) as (running, client):
        large = encoded(photograph("retina").resize((3000, 3000)), "BMP")
        master = client.post("/masters", files={"file": ("a.bmp", large)}).json()["results"][0][
            "master"
        ]
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as stalled:
            stalled.sendall(
                f"GET {master['links']['content']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            )
            stalled.recv(1000)
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) is not None
