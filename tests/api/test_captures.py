"""Capture metadata over HTTP and on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from app.http.schemas import Master as MasterSchema
from app.settings import Settings
from models.embedder import Embedder
from storage import schema_upgrade
from storage.database import Database
from tests.support.images import encoded, photograph
from tests.support.metadata import (
    PHONE,
    PHONE_EXIF,
    exif_block,
    jpeg_with,
    picture_with,
    raw_exif,
    segment,
)
from tests.support.processes import run_command
from tests.support.service import Service, eventually, serving

OVER_HTTP = {name: value for name, value in PHONE.items() if name != "offset"} | {
    "time": "2024-05-01T10:00:00.250000+02:00"
}
PHOTOGRAPH = jpeg_with(exif=PHONE_EXIF)


def another(number: int) -> bytes:
    """Return a photograph with the same metadata and other bytes."""
    return jpeg_with(segment(0xFE, bytes([number])), exif=PHONE_EXIF)


def test_an_upload_returns_what_the_file_says(service: Service) -> None:
    master = service.put_master(PHOTOGRAPH)
    assert master["capture"] == OVER_HTTP
    path = master["links"]["self"]
    assert service.client.get(path).json() == master
    assert service.client.get("/masters").json()["masters"] == [master]
    assert service.search(PHOTOGRAPH)[0]["master"] == master


def test_a_file_that_says_nothing_has_an_empty_object(service: Service) -> None:
    assert service.put_master(encoded(photograph("coffee")))["capture"] == {}


@pytest.mark.parametrize(
    ("taken", "offset", "shown"),
    [
        ("2024:05:01 10:00:00", "+02:00", "2024-05-01T10:00:00+02:00"),
        ("2024:05:01 10:00:00", "-03:30", "2024-05-01T10:00:00-03:30"),
        ("2024:05:01 10:00:00", "Z", "2024-05-01T10:00:00+00:00"),
        ("2024:05:01 10:00:00", None, "2024-05-01T10:00:00"),
        ("1850:05:01 10:00:00", None, "1850-05-01T10:00:00"),
    ],
)
def test_a_time_is_shown_as_the_camera_said_it(
    service: Service, taken: str, offset: str | None, shown: str
) -> None:
    camera = {"DateTimeOriginal": taken} | ({"OffsetTimeOriginal": offset} if offset else {})
    master = service.put_master(jpeg_with(exif=exif_block(None, camera)))
    assert master["capture"] == {"time": shown}


def test_broken_metadata_reject_no_picture(service: Service) -> None:
    broken = raw_exif({0x013B: (2, b"\xff\xfe" * 20), 0x0112: (5, bytes(8))})
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        content = picture_with(kind, exif=PHONE_EXIF, xmp=b"<x:xmpmeta><!DOCTYPE")
        assert service.put_master(content)["capture"]["camera"] == "Apple iPhone 12"
    assert service.put(jpeg_with(exif=broken)).status_code == 201


def test_pictures_are_selected_by_what_they_say(service: Service) -> None:
    master = service.put_master(PHOTOGRAPH)
    service.put_master(encoded(photograph("coffee")))
    for condition in (
        {"capture.camera": "Apple iPhone 12"},
        {"capture.time": {"$gte": "2024-05-01", "$lt": "2024-05-02"}},
        {"capture.gps": {"$within": [13, 52, 14, 53]}},
    ):
        text = json.dumps(condition)
        page = service.client.get("/masters", params={"filter": text}).json()
        assert [each["id"] for each in page["masters"]] == [master["id"]]
        hits = service.search(PHOTOGRAPH, filter=text)
        assert [hit["master"]["id"] for hit in hits] == [master["id"]]


def test_thumbnails_say_nothing(service: Service) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
        master = service.put_master(picture_with(kind, PHONE_EXIF))
        thumbnail = service.client.get(master["links"]["thumbnail"]).content
        assert b"Exif" not in thumbnail
        assert b"iPhone" not in thumbnail


@pytest.fixture
def without_gps(settings: Settings, embedder: Embedder) -> Iterator[Service]:
    with serving(settings.model_copy(update={"keep_gps": False}), embedder) as running:
        yield running


def test_the_position_is_kept_nowhere_if_the_setting_says_so(without_gps: Service) -> None:
    master = without_gps.put_master(PHOTOGRAPH)
    assert master["capture"] == {name: OVER_HTTP[name] for name in OVER_HTTP if name != "gps"}
    database = without_gps.services.settings.data_dir / "lookalike.db"
    assert b"52.52" not in database.read_bytes() + database.with_suffix(".db-wal").read_bytes()


def stats(service: Service) -> dict[str, Any]:
    response = service.client.get("/stats")
    assert response.status_code == 200, response.text
    numbers: dict[str, Any] = response.json()
    return numbers


def test_stats_count_the_whole_installation(service: Service) -> None:
    service.put_master(PHOTOGRAPH)
    service.put_master(another(1), collection="other")
    assert stats(service) == {"masters": 2, "pending": 0, "dead_letters": 0, "unread": 0}


def test_all_files_can_be_read_again(service: Service) -> None:
    masters = [service.put_master(another(number)) for number in range(3)]
    response = service.client.post("/admin/capture/reread")
    assert (response.status_code, response.json()["unread"] <= 3) == (202, True)
    assert eventually(lambda: stats(service)["unread"] == 0)
    assert service.client.get("/masters").json()["masters"] == masters[::-1]


# an installation of an earlier release


def make_older(data_dir: Path) -> None:
    """Take from an installation what this release has added."""
    with closing(Database(f"sqlite:///{data_dir}/lookalike.db")) as database:
        command.downgrade(schema_upgrade.config(database), "0007")
        with database.write() as connection:
            connection.execute(
                sa.text(
                    "UPDATE vectors SET attributes ="
                    " (SELECT attributes FROM masters WHERE masters.id = vectors.master_id)"
                )
            )


def test_an_older_installation_is_read_in_the_background(
    settings: Settings, embedder: Embedder
) -> None:
    idle = settings.model_copy(update={"worker": "off"})
    with serving(idle, embedder) as service:
        said = [service.put_master(another(n), attributes=f'{{"n": {n}}}') for n in range(5)]
        silent = service.put_master(encoded(photograph("coffee")))
    make_older(settings.data_dir)
    with serving(idle, embedder) as service:
        assert stats(service) == {"masters": 6, "pending": 0, "dead_letters": 0, "unread": 6}
        page = service.client.get("/masters").json()["masters"]
        assert {master["capture"] for master in page} == {None}
        assert len(service.search(another(0))) == 6
        assert service.search(another(0), filter='{"n": 3}')[0]["master"]["id"] == said[3]["id"]
    with serving(settings, embedder) as service:
        assert eventually(lambda: stats(service)["unread"] + stats(service)["pending"] == 0, 20)
        page = {master["id"]: master for master in service.client.get("/masters").json()["masters"]}
        for master in said:
            assert page[master["id"]] == master | {"revision": 2}
        assert page[silent["id"]] == silent | {"revision": 2}
        both = '{"n": 3, "capture.camera": "Apple iPhone 12"}'
        assert service.search(another(0), filter=both)[0]["master"]["id"] == said[3]["id"]
        report = service.client.post("/admin/scrub", json={"full": True}).text.splitlines()[-1]
        assert json.loads(report)["report"]["clean"]


# the command line


def run(service: Service, *arguments: str) -> Any:
    arguments = ("capture", "--url", str(service.client.base_url), *arguments)
    return run_command(*arguments, environment=dict(os.environ))


def test_the_command_waits_until_all_files_are_read(service: Service) -> None:
    for number in range(3):
        service.put_master(another(number))
    done = run(service, "--reread")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "The metadata of all 3 images has been read.\n"
    done = run(service, "--json")
    assert json.loads(done.stdout) == {"masters": 3, "unread": 0}


def test_the_schema_names_every_member(service: Service) -> None:
    document = service.client.get("/openapi.json").json()["components"]["schemas"]
    assert set(document["Capture"]["properties"]) >= set(OVER_HTTP)
    assert "capture" in MasterSchema.model_fields
