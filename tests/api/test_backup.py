"""`lookalike backup` and `restore` on the embedded stores: in use, repeated, killed, refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.settings import Settings
from models.embedder import Embedder
from models.weights_file import WeightsFile
from tests.support.decisions import decide, decisions_of
from tests.support.embedded import free_port, run_on, serve_fork
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.installations import remove_database
from tests.support.processes import ROOT, CommandProcess
from tests.support.service import Service, eventually, serving
from tests.support.tiny_network import TinyNetwork

Result = subprocess.CompletedProcess[str]


def run(command: str, directory: Path, data_dir: Path, *options: str) -> Result:
    return run_on(data_dir, command, str(directory), *options)


def masters(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.client.get("/masters?limit=500").json()["masters"]
    return found


def scrubbed(service: Service) -> dict[str, Any]:
    response = service.client.post("/admin/scrub", json={"full": True})
    report: dict[str, Any] = json.loads(response.text.splitlines()[-1])["report"]
    return report


@pytest.mark.parametrize("vectors", [True, False])
def test_a_service_in_use_is_backed_up_and_restored(
    settings: Settings, embedder: Embedder, tmp_path: Path, vectors: bool
) -> None:
    directory, options = tmp_path / "backup", ["--vectors"] if vectors else []
    with serving(settings, embedder) as service:
        for seed in range(8):
            service.put_master(
                encoded(part_of("coffee", seed)), f"räume {seed}.jpg", attributes=f'{{"n": {seed}}}'
            )
        service.put_master(CAT, collection="animals")
        gone = masters(service)[0]["id"]
        service.client.delete(f"/masters/{gone}")
        decided = decide(service.stores.metadata)
        done = run("backup", directory, settings.data_dir, *options)
        assert (
            done.returncode,
            "8 masters copied and verified, 0 were already present, 0 failed." in done.stderr,
        ) == (0, True), done
        before = masters(service)
    assert json.loads((directory / "backup.json").read_text())["complete"] is True
    target = settings.model_copy(update={"data_dir": tmp_path / "restored"})
    restored = run("restore", directory, target.data_dir)
    assert (restored.returncode, "8 masters copied and verified" in restored.stderr) == (0, True), (
        restored
    )
    assert ("8 have no vector" in restored.stderr) is not vectors
    with serving(target, embedder) as service:
        assert masters(service) == before
        assert decisions_of(service.stores.metadata) == decided
        assert eventually(lambda: service.stores.metadata.count_pending_embeddings() == 0)
        assert (
            service.search(encoded(photograph("chelsea"), quality=60), collection="animals")[0][
                "distance"
            ]
            < 0.1
        )
        assert service.search(encoded(part_of("coffee", 3)), filter='{"n": 3}')[0]["exact"] is True
        assert service.client.get(f"/masters/{gone}").status_code == 404
        report = scrubbed(service)
        assert (report["clean"], report["masters"], report["hashed"]) == (True, 8, 8)
    again = run("restore", directory, target.data_dir)
    assert "0 masters copied and verified, 8 were already present, 0 failed." in again.stderr
    # A backup is itself an installation.
    with serving(settings.model_copy(update={"data_dir": directory}), embedder) as service:
        assert masters(service) == before
        assert decisions_of(service.stores.metadata) == decided
        assert eventually(lambda: scrubbed(service)["clean"])


def test_a_second_backup_updates_the_first(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        kept, changed, gone = (
            service.put_master(encoded(part_of("coffee", seed))) for seed in range(3)
        )
        service.put_master(CAT, collection="animals")
        service.put_master(CAT, collection="emptied")
        assert run("backup", directory, settings.data_dir, "--vectors").returncode == 0
        new = service.put_master(encoded(photograph("rocket")))
        service.client.patch(
            f"/masters/{changed['id']}", json={"name": "new.jpg", "attributes": {"n": 1}}
        )
        service.client.delete(f"/masters/{gone['id']}")
        service.client.delete("/collections/animals?confirm=animals")
        service.client.delete("/collections/emptied?confirm=emptied")
        again = service.put_master(CAT, collection="emptied")  # another collection of the same name
        # Wait, because the worker could remove a directory while `rglob` walks through it.
        assert eventually(lambda: service.stores.metadata.count_unfinished() == 0)
        (lost,) = (settings.data_dir / "objects").rglob(f"{kept['id']}.*")
        lost.unlink()
        service.client.post("/admin/scrub", json={"repair": True})
        second = run("backup", directory, settings.data_dir, "--vectors")
        assert second.returncode == 1
        assert (
            "2 masters copied and verified, 0 were already present, 1 failed. 1 changed, 3 removed."
            in second.stderr
        ), second
        assert f"{kept['id']} ({kept['name']}) is not copied: it is damaged" in second.stderr
        wanted = {master["id"]: master for master in masters(service)}
    with serving(settings.model_copy(update={"data_dir": directory}), embedder) as service:
        found = {master["id"]: master for master in masters(service)}
        # The backup keeps the bytes that the installation lost.
        assert found == wanted | {kept["id"]: found[kept["id"]]}
        assert set(found) == {kept["id"], changed["id"], new["id"]}
        assert service.client.get(found[kept["id"]]["links"]["content"]).content == encoded(
            part_of("coffee", 0)
        )
        assert [hit["master"]["id"] for hit in service.search(CAT, collection="emptied")] == [
            again["id"]
        ]
        assert scrubbed(service)["clean"]


def test_a_backup_follows_a_deletion_and_a_new_upload(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        first = service.put_master(CAT)
        assert run("backup", directory, settings.data_dir).returncode == 0
        service.client.delete(f"/masters/{first['id']}")
        second = service.put_master(CAT)
        again = run("backup", directory, settings.data_dir)
        assert (
            again.returncode,
            "1 masters copied" in again.stderr,
            "1 removed" in again.stderr,
        ) == (0, True, True), again
    assert [
        master["id"]
        for master in masters_of(settings.model_copy(update={"data_dir": directory}), embedder)
    ] == [second["id"]]


def test_a_backup_of_another_installation_is_not_overwritten(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory, other = (
        tmp_path / "backup",
        settings.model_copy(update={"data_dir": tmp_path / "other"}),
    )
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    with serving(other, embedder):
        pass  # an empty installation, as after the loss of a disk
    assert run("backup", directory, settings.data_dir).returncode == 0
    wrong = run("backup", directory, other.data_dir)
    assert (wrong.returncode, "of another installation" in wrong.stderr) == (2, True)
    assert len(list((directory / "objects" / "masters").rglob("*.jpg"))) == 1
    assert run("backup", directory, settings.data_dir).returncode == 0


def test_damaged_files_in_a_backup_are_copied_again(
    settings: Settings, embedder: Embedder, tiny_weights_file: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        ids = [service.put_master(encoded(part_of("coffee", seed)))["id"] for seed in range(3)]
        content = tiny_weights_file.read_bytes()
        key = f"models/{embedder.model_version}/weights.safetensors"
        service.stores.objects.put(
            key, io.BytesIO(content), len(content), "application/octet-stream", "weights"
        )
    assert run("backup", directory, settings.data_dir, "--vectors").returncode == 0
    cut, marked, flipped = (
        next((directory / "objects" / "masters").rglob(f"{id_}.*")) for id_ in ids
    )
    (weights,) = (directory / "objects" / "models").rglob("weights.safetensors")
    before = {path: path.read_bytes() for path in (cut, marked, flipped, weights)}
    cut.write_bytes(before[cut][:1000])
    for path in (marked, flipped, weights):
        path.write_bytes(before[path][:-1] + bytes([before[path][-1] ^ 1]))
    with sqlite3.connect(directory / "lookalike.db") as database:  # as a scrub of the backup does
        database.execute("UPDATE masters SET state = 'damaged' WHERE id = ?", (UUID(ids[1]).bytes,))
    second = run("backup", directory, settings.data_dir, "--vectors")
    assert (
        second.returncode,
        "1 were already present" in second.stderr,
        "2 changed" in second.stderr,
    ) == (0, True, True), second
    assert {path for path in before if path.read_bytes() != before[path]} == {flipped}
    third = run("backup", directory, settings.data_dir, "--vectors", "--verify")
    assert (third.returncode, "1 changed" in third.stderr) == (0, True), third
    assert flipped.read_bytes() == before[flipped]
    assert run("restore", directory, tmp_path / "restored").returncode == 0


def test_a_directory_in_place_of_an_original_does_not_stop_the_backup(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        ids = [service.put_master(encoded(part_of("coffee", seed)))["id"] for seed in range(6)]
        for id_ in ids[:3]:
            (path,) = (settings.data_dir / "objects").rglob(f"{id_}.*")
            path.unlink()
            path.mkdir()
        result = run("backup", tmp_path / "backup", settings.data_dir)
        assert (
            result.returncode,
            "3 masters copied and verified, 0 were already present, 3 failed." in result.stderr,
        ) == (1, True)
        report = json.loads(
            service.client.post("/admin/scrub", json={"full": True}).text.splitlines()[-1]
        )["report"]
        assert report["found"] == {"object-missing": 3}


def test_a_backup_without_its_database_is_not_restored(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    assert run("backup", directory, settings.data_dir).returncode == 0
    for remains in (b"", None):
        remove_database(directory)
        if remains is not None:
            (directory / "lookalike.db").write_bytes(remains)
        result = run("restore", directory, tmp_path / "restored")
        assert (result.returncode, "has lost its database" in result.stderr) == (2, True), result


def test_a_backup_is_restored_into_an_empty_installation(
    settings: Settings, other_weights: Path, embedder: Embedder, tmp_path: Path
) -> None:
    other = TinyNetwork(WeightsFile.load(other_weights))
    with serving(settings, other) as service:
        service.put_master(CAT)
    target = settings.model_copy(update={"data_dir": tmp_path / "restored"})
    with serving(target, embedder):
        pass
    assert run("backup", tmp_path / "backup", settings.data_dir, "--vectors").returncode == 0
    assert run("restore", tmp_path / "backup", target.data_dir).returncode == 0
    with serving(target, other) as service:
        assert service.search(CAT)[0]["exact"] is True


def test_relative_paths_are_accepted(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    made = run(
        "backup",
        Path(os.path.relpath(tmp_path / "backup", ROOT)),
        Path(os.path.relpath(settings.data_dir, ROOT)),
    )
    assert made.returncode == 0, made
    restored = run(
        "restore",
        Path(os.path.relpath(tmp_path / "backup", ROOT)),
        Path(os.path.relpath(tmp_path / "restored", ROOT)),
    )
    assert restored.returncode == 0, restored


def test_a_backup_beside_traffic_delays_removals(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory, done = tmp_path / "backup", threading.Event()
    acknowledged: list[str] = []

    def traffic(service: Service) -> None:
        for seed in range(1000):
            if done.is_set():
                return
            id_ = service.put_master(encoded(part_of("astronaut", seed)))["id"]
            if seed % 2:
                assert service.client.delete(f"/masters/{id_}").status_code == 204
            else:
                acknowledged.append(id_)

    with serving(settings, embedder) as service:
        for seed in range(20):
            service.put_master(encoded(part_of("coffee", seed)))
        with ThreadPoolExecutor() as pool:
            task = pool.submit(traffic, service)
            assert eventually(lambda: len(acknowledged) > 2)
            certain = set(acknowledged)
            result = run("backup", directory, settings.data_dir, "--vectors", "-j", "1")
            done.set()
            task.result()
        assert result.returncode == 0, result
        assert eventually(lambda: service.stores.metadata.count_unfinished() == 0)
        metadata = service.stores.metadata
        assert metadata.acquire_lease("backup", "test", 60)  # as a running backup does
        gone = service.put_master(CAT)["id"]
        service.client.delete(f"/masters/{gone}")
        time.sleep(0.5)
        assert any(gone in key for key in service.objects())
        metadata.release_lease("backup", "test")
        assert eventually(lambda: not any(gone in key for key in service.objects()))
    with serving(settings.model_copy(update={"data_dir": directory}), embedder) as service:
        assert certain <= {master["id"] for master in masters(service)}
        assert scrubbed(service)["clean"]


@pytest.mark.slow
def test_a_killed_backup_is_not_restored_until_it_is_complete(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        for seed in range(250):
            service.put_master(encoded(part_of("coffee", seed, (64, 48))))
    environment = os.environ | {"LOOKALIKE_DATA_DIR": str(settings.data_dir)}
    null = Path(os.devnull)
    process = CommandProcess(
        "backup", str(directory), "-j", "1", environment=environment, stdout=null, stderr=null
    )
    assert eventually(
        lambda: (
            len(list(directory.rglob("objects/masters/**/*.jpg"))) > 120
            or process.poll() is not None
        ),
        60,
    )
    process.kill()
    process.wait()
    target = tmp_path / "restored"
    refused = run("restore", directory, target)
    assert (refused.returncode, "was interrupted" in refused.stderr) == (2, True)
    busy = run("backup", directory, settings.data_dir)
    assert (busy.returncode, "another backup is running, or was killed" in busy.stderr) == (2, True)
    with serving(settings, embedder) as service:
        service.stores.metadata._db.engine.raw_connection().execute("DELETE FROM leases")
    done = run("backup", directory, settings.data_dir)
    assert (
        done.returncode,
        "0 failed" in done.stderr,
        " 0 were already present" in done.stderr,
    ) == (
        0,
        True,
        False,
    ), done
    assert run("restore", directory, target).returncode == 0
    with serving(settings.model_copy(update={"data_dir": target}), embedder) as service:
        assert len(masters(service)) == 250


def test_originals_with_wrong_bytes_are_reported(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        master, other = service.put_master(CAT), service.put_master(encoded(photograph("rocket")))
        (path,) = (settings.data_dir / "objects").rglob(f"{master['id']}.*")
        path.write_bytes(CAT[:-1] + b"?")
        done = run("backup", directory, settings.data_dir)
        assert (
            done.returncode,
            f"{master['id']} (photograph.jpg) is not copied: its bytes are not those"
            in done.stderr,
        ) == (
            1,
            True,
        )
    (copy,) = (directory / "objects" / "masters").rglob(f"{other['id']}.*")
    copy.write_bytes(b"rotten")
    restored = run("restore", directory, tmp_path / "restored")
    assert (
        restored.returncode,
        f"{other['id']} (photograph.jpg) is not copied" in restored.stderr,
    ) == (1, True)


def test_unusable_directories_and_installations_are_refused(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    nothing = run("backup", directory, tmp_path / "none")
    assert (
        nothing.returncode,
        "there is no installation" in nothing.stderr,
        directory.exists(),
    ) == (2, True, False)
    with serving(settings, embedder) as service:
        service.put_master(CAT)
        assert run("backup", directory, settings.data_dir).returncode == 0
        served = run("restore", directory, settings.data_dir)
        assert (served.returncode, "another process serves" in served.stderr) == (2, True)
        itself = run("backup", settings.data_dir, settings.data_dir)
        assert (itself.returncode, "in the installation itself" in itself.stderr) == (2, True)
        inside = run("backup", settings.data_dir / "objects" / "backup", settings.data_dir)
        assert (inside.returncode, "in the installation itself" in inside.stderr) == (2, True)
        (tmp_path / "file").write_text("")
        nowhere = run("backup", tmp_path / "file" / "backup", settings.data_dir)
        assert (
            nowhere.returncode,
            "Not a directory" in nowhere.stderr,
            "Traceback" in nowhere.stderr,
        ) == (2, True, False)
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("mine")
    full = run("backup", home, settings.data_dir)
    assert (full.returncode, "is not empty, and not a backup" in full.stderr) == (2, True)
    assert [path.name for path in home.iterdir()] == ["letter.txt"]
    assert run("restore", home, tmp_path / "restored").returncode == 2
    other = settings.model_copy(update={"data_dir": tmp_path / "other"})
    with serving(other, embedder) as service:
        service.put_master(encoded(photograph("rocket")))
    mixed = run("restore", directory, other.data_dir)
    assert (mixed.returncode, "with other masters in it" in mixed.stderr) == (2, True), mixed
    shutil.rmtree(directory)
    assert run("restore", directory, tmp_path / "restored").returncode == 2
    assert UUID(masters_of(other, embedder)[0]["id"])


def test_a_backup_that_has_been_served_is_not_overwritten(
    settings: Settings, embedder: Embedder, tmp_path: Path
) -> None:
    directory = tmp_path / "backup"
    with serving(settings, embedder) as service:
        service.put_master(CAT)
    assert run("backup", directory, settings.data_dir).returncode == 0
    served = settings.model_copy(update={"data_dir": directory})
    with serve_fork(directory, free_port()) as (process, _):
        process.terminate()
        process.wait(60)
    with serving(served, embedder) as service:
        service.put_master(encoded(photograph("rocket")))
    again = run("backup", directory, settings.data_dir)
    assert (again.returncode, "has been served" in again.stderr) == (2, True)
    assert len(masters_of(served, embedder)) == 2


def masters_of(settings: Settings, embedder: Embedder) -> list[dict[str, Any]]:
    with serving(settings, embedder) as service:
        return masters(service)
