"""Faults of the environment: a full or read-only disk, a damaged database, a clock set back.

Each fault causes a clear error and loses no acknowledged data. The service recovers by itself when
the cause is gone.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from models.embedder import Embedder
from tests.support.embedded import free_port, serve_fork, serve_interpreter, start_fork
from tests.support.images import CAT, encoded, part_of, photograph
from tests.support.service import eventually, serving
from tests.support.system_packages import require


def put(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/masters", files={"file": ("a.jpg", content)})


def search(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/search", files={"sample": ("a.jpg", content)})


def refused(response: httpx.Response, code: str = "store-unavailable") -> bool:
    return (response.status_code, response.json()["code"], "retry-after" in response.headers) == (
        503,
        code,
        True,
    )


def is_live(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/livez", verify=False).is_success  # noqa: S501 - not over TLS
    return False


def clean(client: httpx.Client) -> bool:
    return '"clean": true' in client.post("/admin/scrub", json={"full": True}).text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system that is large enough for the weights and a few images."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=72m", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    for _ in range(2):  # twice, because a test may have mounted over it
        subprocess.run(["umount", "--lazy", disk], capture_output=True, check=False)


def fill(disk: Path) -> Path:
    """Fill the rest of the disk with one file; return its path."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
    return path


def test_a_full_disk_loses_no_acknowledged_upload(small_disk: Path) -> None:
    port = free_port()
    data = small_disk / "data"
    with serve_fork(data, port) as (_, client):
        kept = [
            put(client, encoded(part_of("coffee", seed))).json()["results"][0]["master"]
            for seed in range(3)
        ]
        filler = fill(small_disk)
        answers = [put(client, encoded(part_of("astronaut", seed))) for seed in range(8)]
        assert [
            answer.status_code for answer in answers if answer.status_code not in (201, 202, 503)
        ] == []
        assert refused(answers[-1], "disk-full")
        acknowledged = [
            answer.json()["results"][0]["master"] for answer in answers if answer.status_code != 503
        ]
        assert (
            search(client, encoded(part_of("coffee", 1))).json()["hits"][0]["master"]["id"]
            == kept[1]["id"]
        )
        assert client.get(kept[2]["links"]["content"]).content == encoded(part_of("coffee", 2))
        deleted = client.delete(f"/masters/{kept[0]['id']}")
        assert deleted.status_code in (204, 503), deleted.text
        filler.unlink()
        assert eventually(lambda: put(client, CAT).status_code in (200, 201), 30)
        assert client.delete(f"/masters/{kept[0]['id']}").status_code in (204, 404)
        for master in [*kept[1:], *acknowledged]:
            assert client.get(f"/masters/{master['id']}").status_code == 200
        assert eventually(lambda: clean(client), 30)
    fill(small_disk)
    with serve_fork(data, port) as (_, client):  # it also starts on a full disk
        assert search(client, CAT).json()["hits"][0]["exact"] is True


@pytest.mark.slow
def send_in_chunks(client: httpx.Client, path: str, field: str, content: bytes) -> httpx.Response:
    """Send a form of unknown length, whose files go to the disk."""
    form = client.build_request("POST", path, files={field: ("a.bmp", content)})
    headers = {"Content-Type": form.headers["Content-Type"]}
    return client.post(path, content=iter([form.read()]), headers=headers)


def test_a_full_disk_for_temporary_files_refuses_uploads(small_disk: Path, tmp_path: Path) -> None:
    """Nothing is left behind, and what needs no temporary file still works."""
    large = encoded(photograph("retina").resize((1500, 1500)), "BMP")  # 7 MB
    port, data = free_port(), tmp_path / "data"
    with serve_interpreter(data, port, TMPDIR=str(small_disk)) as (_, client):
        assert put(client, CAT).status_code == 201
        before = sorted(path.name for path in small_disk.iterdir())
        filler = fill(small_disk)
        for path, field in (("/masters", "file"), ("/search", "sample")):
            assert refused(send_in_chunks(client, path, field, large), "disk-full")
        files = {"weights": ("a.bundle", large)}
        assert refused(client.post("/admin/models", files=files), "disk-full")
        assert put(client, encoded(photograph("rocket"))).status_code == 201
        filler.unlink()
        assert sorted(path.name for path in small_disk.iterdir()) == before
        assert os.statvfs(small_disk).f_bavail * 4096 > 60_000_000
        assert put(client, large).status_code == 201
        assert clean(client)


def test_a_read_only_directory_refuses_uploads_and_still_answers_searches(small_disk: Path) -> None:
    port, data = free_port(), small_disk / "data"
    # If a failed upload cannot even abandon its row, the row is free when the lease expires.
    with serve_fork(data, port, LOOKALIKE_LEASE_SECONDS="3") as (_, client):
        master = put(client, CAT).json()["results"][0]["master"]
        subprocess.run(["mount", "--bind", small_disk, small_disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", small_disk], check=True)
        assert refused(put(client, encoded(photograph("rocket"))))
        assert client.get(master["links"]["content"]).content == CAT
        assert search(client, CAT).json()["hits"][0]["exact"] is True
        subprocess.run(["mount", "-o", "remount,rw,bind", small_disk], check=True)
        assert eventually(lambda: put(client, encoded(photograph("rocket"))).is_success, 30)
        assert eventually(lambda: clean(client), 30)
    subprocess.run(["mount", "-o", "remount,ro,bind", small_disk], check=True)
    starting = start_fork(data, port)
    _, said = starting.communicate(timeout=60)
    assert (starting.returncode, "Read-only file system" in said, "Traceback" in said) == (
        2,
        True,
        False,
    ), said


def test_a_locked_database_refuses_changes_until_it_is_released(
    settings: Settings, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT", 0.5)
    with serving(settings, embedder) as service:
        master = service.put_master(CAT)
        with closing(
            sqlite3.connect(settings.data_dir / "lookalike.db", isolation_level=None)
        ) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert refused(service.put(encoded(photograph("rocket"))))
            assert refused(service.client.delete(f"/masters/{master['id']}"))
            assert service.search(CAT)[0]["exact"] is True
            other.execute("ROLLBACK")
        assert service.put(encoded(photograph("rocket"))).status_code == 201
        assert clean(service.client)


@pytest.mark.slow
def test_a_broken_database_page_causes_no_further_damage(
    settings: Settings, embedder: Embedder
) -> None:
    """The process reports the damage or serves the rest; the restored page brings all data back."""
    path = settings.data_dir / "lookalike.db"
    with serving(settings, embedder) as service:
        masters = [service.put_master(encoded(part_of("coffee", seed))) for seed in range(30)]
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as database:
        pages = {
            row[0]: row[1]
            for row in database.execute(
                "SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"
            )
        }
        size = database.execute("PRAGMA page_size").fetchone()[0]
    for table in ("masters", "collections", "embeddings"):
        broken = bytearray(whole)
        start = (pages[table] - 1) * size
        broken[start : start + size] = os.urandom(size)
        path.write_bytes(broken)
        port = free_port()
        starting = start_fork(settings.data_dir, port)
        assert eventually(lambda: starting.poll() is not None or is_live(port), 20)  # noqa: B023
        if starting.poll() is None:  # it serves the undamaged tables
            starting.kill()
            starting.communicate()
        else:
            _, said = starting.communicate()
            assert (starting.returncode, "malformed" in said, "Traceback" in said) == (
                2,
                True,
                False,
            ), said
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(whole)
    with serving(settings, embedder) as service:
        assert [
            service.client.get(f"/masters/{master['id']}").status_code for master in masters
        ] == [200] * 30
        assert clean(service.client)


def test_a_damaged_original_is_hidden_until_it_is_uploaded_again(
    settings: Settings, embedder: Embedder
) -> None:
    """Wrong bytes are neither shown nor embedded; an upload of the right ones is the repair."""
    with serving(settings, embedder) as service:
        master = service.put_master(CAT)
        (path,) = (settings.data_dir / "objects").rglob(f"{master['id']}.*")
        link, client = f"/masters/{master['id']}", service.client
        boxed = {"master_id": master["id"], "box": "0,0,50,50"}
        both = {"a_id": master["id"], "b_id": master["id"]}
        reads = [
            lambda: client.get(f"{link}/content"),
            lambda: client.get(f"{link}/content", headers={"Range": "bytes=0-9"}),
            lambda: client.head(f"{link}/content"),
            lambda: client.get(f"{link}/thumbnail?size=64"),
            lambda: client.post("/search", data=boxed),
            lambda: client.post("/compare", data=both),
        ]
        wrong = [encoded(photograph("rocket")), CAT[: len(CAT) // 2], CAT[:-1] + b"x", b"", b"x"]
        for content in wrong:
            for read in reads:
                path.write_bytes(content)
                response = read()
                assert response.status_code == 503
                assert "etag" not in response.headers
                assert response.headers.get("cache-control") is None
                assert response.request.method == "HEAD" or refused(response, "object-damaged")
                assert client.get(link).status_code == 404
                assert service.put(CAT).json()["results"][0]["master"]["id"] == master["id"]
        assert client.get(f"{link}/content").content == CAT
        assert clean(client)


@pytest.mark.parametrize("whole", [{}, {"Range": "bytes=0-"}])
def test_a_download_of_a_damaged_original_never_ends_well(
    settings: Settings, embedder: Embedder, whole: dict[str, str]
) -> None:
    """A client cannot take the bytes of a large damaged original for the whole."""
    large = encoded(photograph("retina").resize((1500, 1500)), "BMP")  # 7 MB
    with serving(settings, embedder) as service:
        master = service.put_master(large, "a.bmp")
        (path,) = (settings.data_dir / "objects").rglob(f"{master['id']}.*")
        for wrong in (large[:-1] + b"x", b"x" + large[1:], large[:-1]):
            path.write_bytes(wrong)
            with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|peer closed"):
                service.client.get(master["links"]["content"], headers=whole)
            assert service.client.get(master["links"]["self"]).status_code == 404
            assert service.put(large).json()["results"][0]["master"]["id"] == master["id"]
        response = service.client.get(master["links"]["content"], headers=whole)
        assert response.content == large
        assert "immutable" in response.headers["cache-control"]
        part = service.client.get(master["links"]["content"], headers={"Range": "bytes=1-5"})
        assert (part.content, part.headers["cache-control"]) == (large[1:6], "no-store")


@pytest.mark.slow
def test_a_clock_that_is_set_back_does_not_delay_work(tmp_path: Path) -> None:
    """The clock goes back by a day; leases and retries do not wait for that day to pass."""
    library = require("libfaketime")
    clock, port = tmp_path / "clock", free_port()
    clock.write_text("+0d")
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "LOOKALIKE_LEASE_SECONDS": "2",
    }
    with serve_interpreter(tmp_path / "data", port, **faked) as (running, client):
        before = put(client, CAT).json()["results"][0]["master"]
        gone = put(client, encoded(photograph("coffee"))).json()["results"][0]["master"]
        with (
            closing(sqlite3.connect(tmp_path / "data" / "lookalike.db", timeout=10)) as database,
            database,
        ):
            held = "UPDATE embeddings SET state = 'pending', lease_owner = 'x', lease_until = ?"
            database.execute(held, (int(time.time() * 1000) + 60_000,))
        clock.write_text("-1d")
        assert client.delete(f"/masters/{gone['id']}").status_code == 204
        after = put(client, encoded(photograph("rocket"))).json()["results"][0]["master"]
        assert after["created_at"] < before["created_at"]
        assert eventually(lambda: put(client, CAT).json()["results"][0]["indexed"], 20)
        assert {hit["master"]["id"] for hit in search(client, CAT).json()["hits"]} == {
            before["id"],
            after["id"],
        }
        client.patch(f"/masters/{after['id']}", json={"attributes": {"n": 1}})
        running.kill()
        running.wait()
    with serve_interpreter(tmp_path / "data", port) as (_, client):  # the clock is right again
        assert eventually(lambda: clean(client), 20)
        assert client.get(f"/masters/{gone['id']}").status_code == 404
        assert client.get(f"/masters/{after['id']}").json()["attributes"] == {"n": 1}
