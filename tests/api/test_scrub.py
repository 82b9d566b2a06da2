"""`POST /admin/scrub` and `lookalike scrub`: every kind of finding, dry runs and repairs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from app.settings import Settings
from models.embedder import Embedder
from storage.metadata import new_id
from storage.records import VectorRecord, whole_image
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.processes import run_command
from tests.support.service import Service, eventually, serving

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"scrub_grace": 0.0})


def scrub(service: Service, **options: bool) -> dict[str, Any]:
    response = service.client.post("/admin/scrub", json=options)
    assert response.status_code == 200, response.text
    *progress, last = [json.loads(line) for line in response.text.splitlines()]
    assert [event["looked_at"] for event in progress] == sorted(
        event["looked_at"] for event in progress
    )
    report: dict[str, Any] = last["report"]
    return report


def found(service: Service, **options: bool) -> dict[str, int]:
    counts: dict[str, int] = scrub(service, **options)["found"]
    return counts


def settled(service: Service) -> bool:
    return eventually(
        lambda: (
            service.stores.metadata.count_pending_embeddings()
            + service.stores.metadata.count_unfinished()
            == 0
        )
    )


def object_of(service: Service, settings: Settings, master: dict[str, Any]) -> Path:
    (path,) = (settings.data_dir / "objects").rglob(f"{master['id']}.*")
    return path


def test_an_intact_installation_is_clean(service: Service) -> None:
    masters = [
        service.put_master(encoded(part_of("coffee", seed)), collection=f"c{seed % 2}")
        for seed in range(6)
    ]
    service.client.delete(f"/masters/{masters[0]['id']}")
    assert settled(service)
    report = scrub(service, full=True)
    assert (report["clean"], report["found"]) == (True, {})
    counts = (report["masters"], report["hashed"], report["objects"], report["vectors"])
    assert counts == (5, 5, 6, 5)  # one object is installation.json


@pytest.mark.parametrize(
    ("harm", "kind"),
    [("missing", "object-missing"), ("changed", "object-wrong"), ("cut", "object-wrong")],
)
def test_a_master_that_lost_its_bytes_is_hidden_until_they_are_uploaded_again(
    service: Service, settings: Settings, harm: str, kind: str
) -> None:
    master, other = service.put_master(CAT), service.put_master(encoded(photograph("rocket")))
    path = object_of(service, settings, master)
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(CAT[:-1] + (b"" if harm == "cut" else b"?"))
    assert found(service, full=True) == {kind: 1}
    # A dry run changes nothing.
    assert service.client.get(f"/masters/{master['id']}").status_code == 200
    assert found(service, full=True, repair=True) == {kind: 1}
    assert service.client.get(f"/masters/{master['id']}").status_code == 404
    assert [hit["master"]["id"] for hit in service.search(CAT)] == [other["id"]]
    assert found(service, repair=True) == {kind: 1}  # it stays a finding until its bytes are back
    again = service.put(CAT)
    assert (again.status_code, again.json()["results"][0]["master"]["id"]) == (200, master["id"])
    assert path.read_bytes() == CAT
    assert service.search(CAT)[0]["exact"] is True
    assert scrub(service, full=True)["clean"]


def test_a_repair_heals_a_master_whose_bytes_are_back(service: Service, settings: Settings) -> None:
    master = service.put_master(CAT)
    path = object_of(service, settings, master)
    path.unlink()
    assert scrub(service, repair=True)["repaired"] == {"object-missing": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CAT)
    assert found(service) == {"healed": 1}
    assert scrub(service, repair=True)["repaired"] == {"healed": 1}
    assert service.client.get(f"/masters/{master['id']}").status_code == 200
    assert scrub(service, full=True)["clean"]


def test_a_damaged_master_can_be_deleted(service: Service, settings: Settings) -> None:
    master = service.put_master(CAT)
    object_of(service, settings, master).unlink()
    scrub(service, repair=True)
    assert service.client.delete(f"/masters/{master['id']}").status_code == 204
    assert settled(service)
    assert scrub(service, full=True)["clean"]


def test_objects_without_a_master_are_put_into_quarantine_when_old_enough(
    service: Service, settings: Settings
) -> None:
    master = service.put_master(CAT)
    known = object_of(service, settings, master)
    orphan = known.with_name(f"{new_id()}.jpg")
    orphan.write_bytes(CAT)
    moved = known.with_suffix(".png")  # not the key of its master
    moved.write_bytes(CAT)
    notes = settings.data_dir / "objects" / "masters" / "notes.txt"
    notes.write_text("not ours")
    (settings.data_dir / "objects" / "elsewhere.txt").write_text("not ours")
    assert found(service) == {"object-unknown": 1, "object-foreign": 3}
    report = scrub(service, repair=True)
    assert report["repaired"] == {"object-unknown": 1}
    assert (known.exists(), orphan.exists(), moved.exists(), notes.exists()) == (
        True,
        False,
        True,
        True,
    )
    (kept,) = (settings.data_dir / "objects" / "quarantine").rglob("*.jpg")
    assert (kept.name, kept.read_bytes()) == (orphan.name, CAT)
    assert found(service) == {"object-foreign": 3}


def test_a_recent_object_may_belong_to_an_upload_in_progress(
    settings: Settings, embedder: Embedder
) -> None:
    with serving(settings.model_copy(update={"scrub_grace": 3600.0}), embedder) as service:
        key = f"masters/default-{new_id()}/ab/ab{'0' * 62}/{new_id()}.jpg"
        service.stores.objects.put(key, io.BytesIO(CAT), len(CAT), "image/jpeg", "a")
        assert scrub(service, repair=True)["clean"]
        assert service.objects() == [key]


def test_missing_vectors_are_restored_and_unknown_ones_removed(service: Service) -> None:
    masters = [
        service.put_master(encoded(part_of("coffee", seed)), attributes='{"n": 1}')
        for seed in range(4)
    ]
    version = service.client.get("/readyz").json()["model_version"]
    lost, outdated = UUID(masters[0]["id"]), UUID(masters[1]["id"])
    vectors = service.stores.vectors
    record = vectors.fetch_vectors(version, [outdated])[outdated]
    vectors.delete(version, [lost])
    vectors.upsert(
        version,
        [VectorRecord(outdated, record.collection_id, record.parts, {"n": 2}, record.revision)],
    )
    stranger = VectorRecord(
        new_id(), record.collection_id, whole_image(np.roll(record.parts[0].vector, 1)), {}, 1
    )
    vectors.upsert(version, [stranger])
    expected = {"vector-missing": 1, "vector-outdated": 1, "vector-unknown": 1}
    assert found(service) == expected
    assert scrub(service, repair=True)["repaired"] == expected
    assert settled(service)
    assert scrub(service, full=True)["clean"]
    kept = vectors.fetch_vectors(
        version, [UUID(master["id"]) for master in masters] + [stranger.master_id]
    )
    stored = service.stores.metadata.find_records([UUID(master["id"]) for master in masters])
    assert {id_: vector.attributes for id_, vector in kept.items()} == {
        id_: record.master.filterable for id_, record in stored.items()
    }


def test_an_embedding_without_a_row_is_created(service: Service) -> None:
    master = service.put_master(CAT)
    service.put_master(encoded(photograph("rocket")))
    database = service.stores.metadata._db
    with database.write() as connection:
        connection.execute(
            sa.text("DELETE FROM embeddings WHERE master_id = :id"),
            {"id": UUID(master["id"]).bytes},
        )
    (version,) = service.stores.vectors.versions()
    service.stores.vectors.delete(version, [UUID(master["id"])])
    assert scrub(service, repair=True)["repaired"] == {"vector-missing": 1}
    assert settled(service)
    assert scrub(service)["clean"]


def test_a_scrub_beside_traffic_finds_nothing(service: Service) -> None:
    stopping = threading.Event()
    failures: list[object] = []

    def traffic(number: int) -> None:
        for seed in range(1000):
            if stopping.is_set():
                return
            put = service.put(encoded(part_of("coffee", 10_000 * number + seed)))
            id_ = put.json()["results"][0]["master"]["id"]
            changed = service.client.patch(f"/masters/{id_}", json={"attributes": {"n": seed}})
            gone = service.client.delete(f"/masters/{id_}") if seed % 2 else changed
            if (put.status_code, changed.status_code, gone.status_code) not in (
                (201, 200, 200),
                (201, 200, 204),
            ):
                failures.append((put.text, changed.text, gone.text))

    reports = []
    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(traffic, number) for number in range(3)]
        try:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                reports.append(scrub(service, full=True, repair=True))
        finally:
            stopping.set()
    for client in clients:
        client.result()
    assert failures == []
    assert [report["found"] for report in reports if report["found"]] == []
    assert settled(service)
    assert scrub(service, full=True)["clean"]


@pytest.mark.parametrize("listed", ["objects", "vectors"])
def test_a_master_deleted_after_it_was_listed_is_no_finding(
    service: Service, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = service.put_master(CAT)
    store, walk = {
        "objects": (service.stores.objects, "list"),
        "vectors": (service.stores.vectors, "iterate_ids"),
    }[listed]
    original = getattr(store, walk)

    def deleted_once_listed(*arguments: str) -> Iterator[object]:
        items = list(original(*arguments))
        if items:
            service.client.delete(f"/masters/{master['id']}")
            assert settled(service)
        yield from items

    monkeypatch.setattr(store, walk, deleted_once_listed)
    assert scrub(service, repair=True)["clean"]
    assert service.client.get(f"/masters/{master['id']}").status_code == 404


def test_the_worker_scrubs_on_schedule(settings: Settings, embedder: Embedder) -> None:
    changed = {"scrub_interval": 0.2, "scrub_rate": 1000.0, "scrub_repair": True}
    with serving(settings.model_copy(update=changed), embedder) as service:
        service.put_master(CAT)
        key = f"masters/default-{new_id()}/ab/ab{'0' * 62}/{new_id()}.jpg"
        service.stores.objects.put(key, io.BytesIO(CAT), len(CAT), "image/jpeg", "a")
        assert eventually(lambda: key not in service.objects())
        assert eventually(
            lambda: (
                'lookalike_scrub_findings{kind="object-unknown"} '
                in service.client.get("/metrics").text
            )
        )


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run_command("scrub", *arguments, environment=os.environ | settings)


def test_the_command_asks_the_service_or_opens_the_stores_itself(
    settings: Settings, embedder: Embedder
) -> None:
    with serving(settings, embedder) as service:
        url = str(service.client.base_url)
        master = service.put_master(CAT)
        whole = run("--url", url, "--full")
        assert (
            whole.returncode,
            "1 masters, 2 objects (1 read and hashed) and 1 vectors" in whole.stdout,
        ) == (0, True), whole
        assert "Clean" in whole.stdout
        object_of(service, settings, master).unlink()
        broken = run("--url", url, "--json")
        assert (broken.returncode, json.loads(broken.stdout)["found"]) == (1, {"object-missing": 1})
        here = {"LOOKALIKE_DATA_DIR": str(settings.data_dir), "LOOKALIKE_SCRUB_GRACE": "0"}
        locked = run("--url", "http://127.0.0.1:9", **here)
        assert (locked.returncode, "another process serves" in locked.stderr) == (2, True)
    alone = run("--url", "http://127.0.0.1:9", "--repair", **here)
    assert alone.returncode == 1
    assert "a master whose bytes are gone" in alone.stdout
    assert master["id"] in alone.stdout


def test_a_scrub_needs_the_admin_scope_and_refuses_unknown_fields(
    settings: Settings, embedder: Embedder, service: Service
) -> None:
    wrong = service.client.post("/admin/scrub", json={"all": True})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid-request")
    from pydantic import SecretStr

    guarded = settings.model_copy(
        update={
            "api_keys": SecretStr("write:abcdefgh,admin:ijklmnop"),
            "data_dir": settings.data_dir / "other",
        }
    )
    with serving(guarded, embedder, {"Authorization": "Bearer abcdefgh"}) as locked:
        assert locked.client.post("/admin/scrub", json={}).status_code == 403
        key = run("--url", str(locked.client.base_url), "--api-key", "ijklmnop")
        assert key.returncode == 0, key
        assert run("--url", str(locked.client.base_url)).returncode == 2
