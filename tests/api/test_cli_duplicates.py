"""`lookalike duplicates` against a running service."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from app.cli import duplicates
from app.cli.client import Client
from app.cli.main import app
from tests.support.images import encoded, part_of
from tests.support.service import Service


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_POLL_INTERVAL", 0.02)


def run(service: Service, *arguments: str) -> Result:
    environment = {"LOOKALIKE_URL": str(service.client.base_url), "COLUMNS": "120"}
    return CliRunner().invoke(app, ["duplicates", *arguments], env=environment)


def put(service: Service, seed: int, side: int = 240, collection: str = "default") -> str:
    image = part_of("coffee", seed, (320, 240)).resize((side * 4 // 3, side))
    name = f"{seed}-{side}.jpg"
    return str(service.put_master(encoded(image, quality=90), name, collection=collection)["id"])


@pytest.fixture
def copies(service: Service) -> list[str]:
    """Two copies of one picture, and another picture."""
    return [put(service, 1), put(service, 1, 180), put(service, 2)]


def test_duplicates_are_found_and_listed(service: Service, copies: list[str]) -> None:
    done = run(service, "scan", "--max-distance", "2")
    assert (done.exit_code, done.stdout) == (0, "Compared 3 of 3 images and found 1 pairs.\n")
    listed = run(service, "list", "--sort", "certainty")
    assert listed.exit_code == 0, listed.output
    for text in (*copies[:2], "1-240.jpg", "1-180.jpg", "320 x 240", "240 x 180", "1 group\n"):
        assert text in listed.stdout
    assert copies[2] not in listed.stdout
    answer = json.loads(run(service, "list", "--json").stdout)
    assert answer["scan"]["state"] == "complete"
    assert {member["id"] for member in answer["groups"][0]["members"]} == set(copies[:2])
    assert run(service, "end").stdout == "Ended the scan.\n"
    gone = run(service, "list")
    assert gone.exit_code == 2
    assert "No scan for duplicates was started in default" in gone.stderr


def test_two_collections_are_compared(service: Service, copies: list[str]) -> None:
    put(service, 1, 120, "other")
    given = ["--with", "other"]
    assert run(service, "scan", *given, "--max-distance", "2").exit_code == 0
    assert "1-120.jpg" in run(service, "list", *given).stdout
    assert run(service, "end", *given).exit_code == 0


def test_groups_on_several_pages_are_listed(
    service: Service, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(service, 2, 180)
    run(service, "scan", "--max-distance", "2")
    monkeypatch.setattr(duplicates, "_MOST", 1)
    assert "2 groups" in run(service, "list").stdout
    assert "1 group" in run(service, "list", "--limit", "1").stdout


def test_decisions_are_made_listed_and_taken_back(service: Service, copies: list[str]) -> None:
    run(service, "scan", "--max-distance", "2")
    decided = run(service, "decide", "different", *copies[:2])
    assert (decided.exit_code, decided.stdout) == (0, "Decided about 1 pair of images.\n")
    assert "0 groups" in run(service, "list").stdout
    listed = run(service, "decisions")
    assert all(text in listed.stdout for text in (*copies[:2], "different", "1 decision\n"))
    (each,) = json.loads(run(service, "decisions", "--json").stdout)["decisions"]
    assert (each["masters"], each["decision"]) == (sorted(copies[:2]), "different")
    back = run(service, "decide", "remove", *copies)
    assert back.stdout == "Took back decisions about 1 pair of images.\n"
    assert "1 group\n" in run(service, "list").stdout
    assert json.loads(run(service, "decide", "keep", *copies, "--json").stdout) == {"pairs": 3}


def test_the_scan_can_be_left_to_the_worker(
    service: Service, copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = json.loads(run(service, "scan", "--json").stdout)
    assert (state["collection"], state["max_distance"]) == ("default", 0.65)

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "duplicate_pages", interrupt)
    stopped = run(service, "scan")
    assert stopped.exit_code == 130
    assert "The worker continues" in stopped.stderr


def test_masters_that_cannot_be_compared_are_reported(service: Service, copies: list[str]) -> None:
    version = service.services.models.active_version()
    service.stores.vectors.delete(version, [UUID(copies[0])])
    done = run(service, "scan", "--max-distance", "2")
    assert "Compared 2 of 3 images" in done.stdout
    assert "The others cannot be compared" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decide", "keep", "a", "b"], "an ID is the id of an image"),
        (["decide", "keep", str(uuid4())], "2 to 100 different images"),
        (["decide", "keep", str(uuid4()), str(uuid4())], "There is no master"),
        (["scan", "--space", "missing"], "The space missing does not exist"),
        (["scan", "--collection", "missing"], "There is no collection named missing"),
    ],
)
def test_bad_arguments_are_explained(service: Service, arguments: list[str], message: str) -> None:
    answer = run(service, *arguments)
    assert answer.exit_code == 2
    assert message in answer.stderr
