"""Deletions by a filter that are undone: listing, restoring, conflicts, and bad input."""

from __future__ import annotations

import io
import json
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.services import changes, undo
from storage.records import LOOK
from tests.support.images import encoded, part_of
from tests.support.service import Service, eventually

RED = '{"colour": "red"}'
NOBODY = "00000000-0000-7000-8000-000000000000"


def image(number: int) -> bytes:
    return encoded(part_of("coffee", number, (96, 72)))


@pytest.fixture
def shelf(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Three red masters and a blue one; a batch has two."""
    monkeypatch.setattr(changes, "_BATCH", 2)
    monkeypatch.setattr(undo, "_BATCH", 2)
    for number in range(4):
        attributes = {"colour": "red" if number else "blue", "n": number}
        service.put_master(image(number), f"{number}.jpg", attributes=json.dumps(attributes))
    return service


def masters_of(service: Service) -> list[dict[str, Any]]:
    masters: list[dict[str, Any]] = service.client.get("/masters").json()["masters"]
    return masters


def delete(service: Service, number: int = 3) -> list[dict[str, Any]]:
    params = {"collection": "default", "filter": RED, "confirm": str(number)}
    return [
        json.loads(line)
        for line in service.client.delete("/masters", params=params).text.splitlines()
    ]


def undo_all(service: Service, deletion: str) -> list[dict[str, Any]]:
    response = service.client.post(f"/deletions/{deletion}/undo")
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def is_first_hit(service: Service, number: int, master_id: str) -> bool:
    files = {"sample": ("a.jpg", io.BytesIO(image(number)))}
    hits = service.client.post("/search", files=files).json()["hits"]
    return bool(hits) and hits[0]["master"]["id"] == master_id


def run(service: Service, *arguments: str) -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "140"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_a_deletion_is_undone_and_its_masters_are_found_again(shelf: Service) -> None:
    before = masters_of(shelf)
    progress, last = delete(shelf)
    result = last["result"]
    assert progress["deletion"] == result["deletion"]
    assert (result["deleted"], len(masters_of(shelf))) == (3, 1)
    (listed,) = shelf.client.get("/deletions", params={"collection": "default"}).json()["deletions"]
    assert listed["id"] == result["deletion"]
    assert (listed["masters"], listed["reason"]) == (3, "filter")
    assert listed["undo_until"] == result["undo_until"]
    deleted = before[0]
    assert shelf.client.get(f"/masters/{deleted['id']}").status_code == 404
    version = shelf.stores.registry.find_active(LOOK)
    ids = [UUID(each["id"]) for each in before]
    assert eventually(lambda: len(shelf.stores.vectors.fetch_vectors(version, ids)) == 1)
    first, second = undo_all(shelf, listed["id"])
    assert first == {"done": 2, "total": 3}
    restored = {"restored": 3, "conflicts": 0, "held": 0, "attributes_restored": 0, "examples": []}
    assert second == {"result": restored}
    after = masters_of(shelf)
    assert [each["id"] for each in after] == [each["id"] for each in before]
    assert [each["attributes"] for each in after] == [each["attributes"] for each in before]
    assert [each["revision"] for each in after] == [2, 2, 2, 1]
    assert eventually(lambda: is_first_hit(shelf, 3, deleted["id"]), 20)
    content = shelf.client.get(f"/masters/{deleted['id']}/content").content
    assert content == image(3)
    assert shelf.client.get("/deletions").json() == {"deletions": []}
    again = shelf.client.post(f"/deletions/{listed['id']}/undo")
    assert (again.status_code, again.json()["code"]) == (404, "deletion-not-found")


def test_a_file_that_was_uploaded_again_is_not_stored_twice(shelf: Service) -> None:
    deleted = masters_of(shelf)[0]["id"]
    deletion = delete(shelf)[-1]["result"]["deletion"]
    again = shelf.put_master(image(3), "again.jpg")
    result = undo_all(shelf, deletion)[-1]["result"]
    assert (result["restored"], result["conflicts"]) == (2, 1)
    assert result["examples"] == [{"id": deleted, "master": again["id"]}]
    assert len(masters_of(shelf)) == 4
    (left,) = shelf.client.get("/deletions").json()["deletions"]
    assert left["masters"] == 1
    shelf.client.delete(f"/masters/{again['id']}")
    assert undo_all(shelf, deletion)[-1]["result"]["restored"] == 1


def test_a_scrub_finds_nothing_while_masters_are_removed(shelf: Service) -> None:
    delete(shelf)
    report = json.loads(
        shelf.client.post("/admin/scrub", json={"repair": True, "full": True}).text.splitlines()[-1]
    )["report"]
    assert report["clean"], report
    assert len(list(shelf.stores.objects.list("masters/"))) == 4


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", f"/deletions/{NOBODY}/undo", 404, "deletion-not-found"),
        ("POST", "/deletions/x/undo", 422, "invalid-request"),
        ("POST", f"/deletions/{NOBODY}/undo?a=1", 422, "unknown-parameter"),
        ("GET", "/deletions?collection=none", 404, "collection-not-found"),
        ("GET", "/deletions?collection=No", 422, "invalid-collection-name"),
        ("GET", "/deletions?limit=0", 422, "invalid-request"),
        ("GET", "/deletions?limit=1001", 422, "invalid-request"),
        ("GET", "/deletions?limits=1", 422, "unknown-parameter"),
    ],
)
def test_bad_input_is_refused(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    refused = service.client.request(method, path)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_the_command_line_lists_and_undoes(shelf: Service) -> None:
    assert "no deletion that can be undone" in run(shelf, "undo").output
    done = run(shelf, "delete", "--filter", RED, "--yes")
    (listed,) = json.loads(run(shelf, "undo", "--json").stdout)["deletions"]
    assert f"To undo this until {listed['undo_until']}: lookalike undo {listed['id']}" in " ".join(
        done.output.split()
    )
    table = run(shelf, "undo").output
    assert listed["id"] in table
    assert "3 images of default (filter), until 2" in table
    again = shelf.put_master(image(1), "again.jpg")
    some = run(shelf, "undo", listed["id"])
    assert some.exit_code == 1
    assert "Restored 2 images." in some.output
    assert f"{again['id']} has the same file" in some.output
    shelf.client.delete(f"/masters/{again['id']}")
    rest = run(shelf, "undo", listed["id"], "--json")
    assert (rest.exit_code, json.loads(rest.stdout)["restored"]) == (0, 1)
    over = run(shelf, "undo", listed["id"])
    assert (over.exit_code, "can be undone" in over.output) == (2, True)
    bad = run(shelf, "undo", "x")
    assert bad.exit_code == 2


def test_a_permanent_deletion_on_the_command_line_cannot_be_undone(shelf: Service) -> None:
    done = run(shelf, "delete", "--filter", RED, "--permanent", "--yes")
    assert done.exit_code == 0, done.output
    assert "undo" not in done.output
    assert json.loads(run(shelf, "undo", "--json").stdout) == {"deletions": []}
